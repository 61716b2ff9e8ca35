// SPDX-License-Identifier: Apache-2.0

/// The tuned kernels of a device.
struct TunedKernels {
  let means: MeanKernels
  let prefill: PrefillAttention
  let decode: DecodeAttention
  let prefillSelection: PrefillSelection
  let decodeSelection: DecodeSelection

  init(_ kernels: LoadedKernels, _ workspace: Workspace) {
    means = MeanKernels(kernels, workspace)
    prefill = PrefillAttention(kernels, workspace)
    decode = DecodeAttention(kernels, workspace)
    prefillSelection = PrefillSelection(kernels, workspace)
    decodeSelection = DecodeSelection(kernels, workspace)
  }
}
