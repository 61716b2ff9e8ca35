// SPDX-License-Identifier: Apache-2.0
// The files of `kernels`, one by one, and what they share with the CPU's; what is not named here is not shipped.
#include "CHiPCUDA.h"

#ifdef __has_embed

#pragma clang diagnostic ignored "-Wc23-extensions"

static const char parameters[] = {
#embed "include/ihp_kernel_parameters.h" suffix(, 0)
};
static const char elements[] = {
#embed "kernels/elements.cuh" suffix(, 0)
};
static const char grids[] = {
#embed "../CHiPSIMD/grids.h" suffix(, 0)
};
static const char weights[] = {
#embed "kernels/weights.cuh" suffix(, 0)
};
static const char rows[] = {
#embed "kernels/rows.cu" suffix(, 0)
};
static const char attention_parameters[] = {
#embed "include/ihp_attention_parameters.h" suffix(, 0)
};
static const char attention_common[] = {
#embed "kernels/common.cuh" suffix(, 0)
};
static const char wgmma[] = {
#embed "kernels/wgmma.cuh" suffix(, 0)
};
static const char decode_core[] = {
#embed "kernels/decode_core.cuh" suffix(, 0)
};
static const char selection[] = {
#embed "kernels/selection.cuh" suffix(, 0)
};
static const char sketch[] = {
#embed "kernels/sketch.cuh" suffix(, 0)
};
static const char means[] = {
#embed "kernels/means.cu" suffix(, 0)
};
static const char attention_prefill[] = {
#embed "kernels/attention_prefill.cu" suffix(, 0)
};
static const char attention_decode[] = {
#embed "kernels/attention_decode.cu" suffix(, 0)
};
static const char select_prefill[] = {
#embed "kernels/select_prefill.cu" suffix(, 0)
};
static const char select_core[] = {
#embed "kernels/select_core.cuh" suffix(, 0)
};
static const char select_decode[] = {
#embed "kernels/select_decode.cu" suffix(, 0)
};
static const char decode_once[] = {
#embed "kernels/decode_once.cu" suffix(, 0)
};
static const char plain_parameters[] = {
#embed "include/ihp_plain_parameters.h" suffix(, 0)
};
static const char plain[] = {
#embed "kernels/plain.cuh" suffix(, 0)
};
static const char plain_stages[] = {
#embed "kernels/plain_stages.cuh" suffix(, 0)
};
static const char plain_work[] = {
#embed "kernels/plain_work.cuh" suffix(, 0)
};
static const char plain_cut[] = {
#embed "kernels/plain_cut.cuh" suffix(, 0)
};
static const char plain_append_kernels[] = {
#embed "kernels/plain_append.cu" suffix(, 0)
};
static const char plain_attend_kernels[] = {
#embed "kernels/plain_attend.cu" suffix(, 0)
};
static const char plain_score_kernels[] = {
#embed "kernels/plain_score.cu" suffix(, 0)
};
static const char plain_select_kernels[] = {
#embed "kernels/plain_select.cu" suffix(, 0)
};
static const char plain_evict_kernels[] = {
#embed "kernels/plain_evict.cu" suffix(, 0)
};
static const char attend_tiles[] = {
#embed "kernels/attend_tiles.cu" suffix(, 0)
};
static const char score_tiles[] = {
#embed "kernels/score_tiles.cu" suffix(, 0)
};
static const char turns[] = {
#embed "kernels/turns.cu" suffix(, 0)
};
static const char model_parameters[] = {
#embed "include/ihp_model_parameters.h" suffix(, 0)
};
static const char embed[] = {
#embed "kernels/embed.cu" suffix(, 0)
};
static const char product[] = {
#embed "kernels/product.cu" suffix(, 0)
};
static const char model_rows[] = {
#embed "kernels/model_rows.cu" suffix(, 0)
};
static const char logits[] = {
#embed "kernels/logits.cu" suffix(, 0)
};

#define FILE_OF(name, text) {name, text, sizeof text - 1}
static const ihp_kernel_file files[] = {
    FILE_OF("ihp_kernel_parameters.h", parameters),
    FILE_OF("elements.cuh", elements),
    FILE_OF("grids.h", grids),
    FILE_OF("weights.cuh", weights),
    FILE_OF("rows.cu", rows),
    FILE_OF("ihp_attention_parameters.h", attention_parameters),
    FILE_OF("common.cuh", attention_common),
    FILE_OF("wgmma.cuh", wgmma),
    FILE_OF("decode_core.cuh", decode_core),
    FILE_OF("selection.cuh", selection),
    FILE_OF("sketch.cuh", sketch),
    FILE_OF("means.cu", means),
    FILE_OF("attention_prefill.cu", attention_prefill),
    FILE_OF("attention_decode.cu", attention_decode),
    FILE_OF("select_prefill.cu", select_prefill),
    FILE_OF("select_core.cuh", select_core),
    FILE_OF("select_decode.cu", select_decode),
    FILE_OF("decode_once.cu", decode_once),
    FILE_OF("ihp_plain_parameters.h", plain_parameters),
    FILE_OF("plain.cuh", plain),
    FILE_OF("plain_stages.cuh", plain_stages),
    FILE_OF("plain_work.cuh", plain_work),
    FILE_OF("plain_cut.cuh", plain_cut),
    FILE_OF("plain_append.cu", plain_append_kernels),
    FILE_OF("plain_attend.cu", plain_attend_kernels),
    FILE_OF("plain_score.cu", plain_score_kernels),
    FILE_OF("plain_select.cu", plain_select_kernels),
    FILE_OF("plain_evict.cu", plain_evict_kernels),
    FILE_OF("attend_tiles.cu", attend_tiles),
    FILE_OF("score_tiles.cu", score_tiles),
    FILE_OF("turns.cu", turns),
    FILE_OF("ihp_model_parameters.h", model_parameters),
    FILE_OF("embed.cu", embed),
    FILE_OF("product.cu", product),
    FILE_OF("model_rows.cu", model_rows),
    FILE_OF("logits.cu", logits),
};

const ihp_kernel_file *ihp_kernel_files(size_t *count) {
  *count = sizeof files / sizeof files[0];
  return files;
}

#else

const ihp_kernel_file *ihp_kernel_files(size_t *count) {
  *count = 0;
  return NULL;
}

#endif
