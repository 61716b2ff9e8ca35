// SPDX-License-Identifier: Apache-2.0

import CHiPCUDA
import FakeCUDA
import Foundation
import HiPCUDA
import HiPCompute
import Testing

extension CUDATests {
  @Suite struct LibraryTests {
    @Test func aMissingDriverSaysWhatWasLookedForAndWhatToDo() throws {
      let places = LibraryPlaces(folders: ["/nowhere/lib64"], asksLoader: false)
      let error = try computeError { _ = try CUDALibrary(places) }
      #expect(error.code == .unsupported)
      for part in ["libcuda.so.1", "/nowhere/lib64", "install the NVIDIA driver", "--device cpu"] {
        #expect(error.message.contains(part))
      }
    }

    @Test func aMissingCompilerNamesItsWheel() throws {
      let machine = FakeMachine(driver: CUDAVersion(12, 4))
      let places = LibraryPlaces(folders: ["/nowhere"], asksLoader: false)
      let driver = try machine.driver()
      let error = try computeError { _ = try KernelCompiler(places, for: driver) }
      #expect(error.code == .unsupported)
      #expect(error.message.contains("Looked for: libnvrtc.so.12, in /nowhere"))
      #expect(error.message.contains("nvidia-cuda-nvrtc-cu12"))
    }

    @Test func aCompilerThatIsTooNewForTheDriverIsNamed() throws {
      let machine = FakeMachine(driver: CUDAVersion(12, 4))
      let folder = try TemporaryFolder()
      try Data("no library".utf8).write(to: URL(filePath: folder.path + "/libnvrtc.so.13"))
      let places = LibraryPlaces(folders: [folder.path], asksLoader: false)
      let driver = try machine.driver()
      let error = try computeError { _ = try KernelCompiler(places, for: driver) }
      #expect(error.message.contains(folder.path + "/libnvrtc.so.13 is for a newer driver"))
      let other = try machine.compiler()
      let refusal = try computeError { try other.check(driver) }
      #expect(refusal.message.contains("update the driver, or install NVRTC 12"))
    }

    @Test func aDamagedLibraryIsReportedWithTheLoadersWords() throws {
      let folder = try TemporaryFolder()
      try Data("no library".utf8).write(to: URL(filePath: folder.path + "/libcuda.so.1"))
      let places = LibraryPlaces(folders: [folder.path], asksLoader: false)
      let error = try computeError { _ = try CUDADriver(places) }
      #expect(error.message.contains("cannot be loaded: \(folder.path)/libcuda.so.1:"))
    }

    @Test func aLibraryWithoutAFunctionNamesIt() throws {
      let machine = FakeMachine()
      fake_cuda_hide("cuGraphLaunch")
      let error = try computeError { _ = try machine.driver() }
      #expect(error.code == .unsupported)
      #expect(error.message.contains("fake/libcuda.so.1 has no cuGraphLaunch"))
      fake_cuda_hide("nvrtcGetCUBIN")
      let other = try computeError { _ = try machine.compiler() }
      #expect(other.message.contains("has no nvrtcGetCUBIN"))
    }

    @Test func anotherLibraryUnderTheDriversNameIsToldApart() throws {
      // The loader's own: it is there, it opens, and it is no driver.
      let found = ["/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64"].map {
        $0 + "/libm.so.6"
      }
      guard let library = found.first(where: { FileManager.default.fileExists(atPath: $0) }) else {
        return
      }
      let folder = try TemporaryFolder()
      try FileManager.default.createSymbolicLink(
        atPath: folder.path + "/libcuda.so.1", withDestinationPath: library)
      let places = LibraryPlaces(folders: [folder.path], asksLoader: false)
      let error = try computeError { _ = try CUDADriver(places) }
      #expect(error.message.contains("libcuda.so.1 has no cuInit"))
    }

    @Test func aDriverWithoutNewerFunctionsServes() throws {
      let machine = FakeMachine(driver: CUDAVersion(12, 0))
      fake_cuda_hide("cuFuncGetParamInfo")
      do {
        let device = try machine.device()
        fake_nvrtc_version(12, 0)
        let kernel = try machine.kernels(device).kernel("fill_rows", of: RowKernels.programs[0])
        let stream = try CUDAStream(device)
        try kernel.launch(
          LaunchShape(grid: LaunchShape.Extent(1), block: LaunchShape.Extent(32)), on: stream,
          UInt64(1))
      }
      machine.expectClean()
    }

    @Test func anOldDriverIsRefusedWithItsVersion() throws {
      let machine = FakeMachine(driver: CUDAVersion(11, 8))
      let error = try computeError { _ = try machine.driver() }
      #expect(error.code == .unsupported)
      #expect(error.message.contains("serves CUDA 11.8, and 12.0 is needed"))
    }

    @Test(arguments: [
      (100, "--gpus all"), (803, "restart the machine"), (34, "Update the driver"),
      (802, "nvidia-fabricmanager"), (46, "nvidia-smi -c DEFAULT"), (304, "/dev/nvidia"),
    ]) func whatTheDriverCannotDoComesWithARemedy(result: Int, remedy: String) throws {
      let machine = FakeMachine()
      fake_cuda_fail("cuInit", Int32(result), 0)
      let error = try computeError { _ = try machine.driver() }
      #expect(error.message.contains(remedy), "\(error)")
      #expect((error.cause as? CUDAFailure)?.result == Int32(result))
    }

    @Test func placesOfTheEnvironmentComeFirst() {
      let places = LibraryPlaces.usual(
        home: "/home/me",
        environment: ["CUDA_PATH": "/opt/toolkit", "VIRTUAL_ENV": "/venv", "CUDA_HOME": "here"])
      #expect(places.folders.first == "/opt/toolkit/lib64")
      #expect(places.folders.contains("/venv/lib/python3*/site-packages/nvidia/*/lib"))
      #expect(
        places.folders.contains("/home/me/.local/lib/python3*/site-packages/nvidia/*/lib"))
      #expect(!places.folders.contains { $0.hasPrefix("here") })
    }

    @Test func everyFileOfKernelsIsEmbedded() throws {
      let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "Sources/CHiPCUDA/kernels")
      let files = try FileManager.default.contentsOfDirectory(
        at: folder, includingPropertiesForKeys: nil)
      let kernels = files.filter { ["cu", "cuh"].contains($0.pathExtension) }
      #expect(!kernels.isEmpty)
      for file in kernels {
        let source = try #require(
          KernelSource.named(file.lastPathComponent), "embedded.c lacks \(file.lastPathComponent)")
        #expect(source.length == (try Data(contentsOf: file)).count)
      }
    }
  }
}
