// SPDX-License-Identifier: Apache-2.0
// What selections score and sum up; a part of `kernels.c`.

static void test_shares(const ihp_kernels *table, size_t columns, size_t fold) {
  enum { rows = 3 };
  const size_t tiles = (columns + 63) / 64, width = 64 / fold;
  float *scores = randoms(rows * tiles * 64), got[512] = {0}, want[512] = {0};
  for (size_t i = 0; i < rows * tiles * 64; i++) scores[i] *= 8;
  for (int pass = 0; pass < 2; pass++) {
    const ihp_kernels *own = pass ? base : table;
    float maximum[rows * 4], sum[rows * 4];
    uint8_t *weights = room(rows * tiles * width * own->weight_bytes);
    for (size_t t = 0; t < tiles; t++) {
      float *tile = room(rows * 64 * 4);
      memcpy(tile, scores + t * rows * 64, rows * 64 * 4);
      size_t count = columns - t * 64 < 64 ? columns - t * 64 : 64;
      own->share_tile(tile, rows, count, fold, weights + t * rows * width * own->weight_bytes,
                      maximum + t * rows, sum + t * rows);
      free(tile);
    }
    own->share_add(weights, rows, tiles, width, maximum, sum, pass ? want : got);
    free(weights);
  }
  // Tables that score in integers take exponentials to 3 %.
  expect_close("shares", got, want, tiles * width, table->scores_in_integers ? 0.03 : 1e-5);
  BOTH("column_max", got, want, columns, 0, own->column_max(scores, columns, rows, columns, out));
  free(scores);
}

/// Shares of keys in panels, against those of the scores that `score_coarse` has for them; keys grow from tile to tile, so
/// that weights that are relative to an earlier one would overflow. Where it is negative, the first tile's score 0
/// by the first query, all others -growth.
static void test_shares_of_keys(const ihp_kernels *table, size_t head, size_t rows, size_t columns, size_t fold,
                                float growth) {
  const size_t tiles = (columns + 63) / 64, width = 64 / fold, panel_bytes = table->coarse_bytes * head * 64 + 256;
  float *queries = randoms(rows * head), *prepared = room(rows * (head + IHP_QUERY_HEADER) * 4);
  float *keys = randoms(tiles * 64 * head), *scratch = room(64 * head * 4), *scores = room(rows * 64 * 4);
  float square = 0;
  for (size_t k = 0; k < head; k++) square += queries[k] * queries[k];
  for (size_t j = 0; j < tiles * 64; j++)
    for (size_t k = 0; k < head; k++)
      if (growth >= 0) keys[j * head + k] *= 1 + growth * (float)(j / 64);
      else keys[j * head + k] = j < 64 ? 0 : queries[k] * (-growth / square);
  table->prepare_queries(queries, rows, head, prepared);
  uint8_t *panels = room(tiles * panel_bytes);
  double *exact = room(rows * columns * 8);
  for (size_t t = 0; t < tiles; t++) {
    int32_t indices[64];
    for (int i = 0; i < 64; i++) indices[i] = i;
    const uint8_t *blocks[1] = {(const uint8_t *)(keys + t * 64 * head)};
    ihp_rows stored_rows = {blocks, 6, IHP_F32, 0, head * 4};
    table->pack_coarse(&stored_rows, indices, 64, head, NULL, 0, indices, scratch, panels + t * panel_bytes);
    table->score_coarse(panels + t * panel_bytes, head, prepared, rows, scores, 64);
    for (size_t r = 0; r < rows; r++)
      for (size_t j = 0; j < 64; j++) {
        // Where a key's share is summed up.
        const size_t q = fold == 1 ? j : j % width, v = fold == 1 ? 0 : j / width;
        const size_t key = t * 64 + fold * q + v;
        if (key < columns) exact[r * columns + key] = scores[r * 64 + j];
      }
  }
  float *want = room(tiles * width * 4), *got = room(tiles * width * 4);
  memset(want, 0, tiles * width * 4);
  memset(got, 0, tiles * width * 4);
  for (size_t r = 0; r < rows; r++) {
    double most = -INFINITY, sum = 0;
    for (size_t j = 0; j < columns; j++) most = fmax(most, exact[r * columns + j]);
    for (size_t j = 0; j < columns; j++) sum += exp(exact[r * columns + j] - most);
    for (size_t j = 0; j < columns; j++) want[j / fold] += (float)(exp(exact[r * columns + j] - most) / sum);
  }
  float *maximum = room(rows * tiles * 4), *sums = room(rows * tiles * 4);
  uint8_t *weights = room(rows * tiles * width * table->weight_bytes);
  table->share_keys(panels, head, prepared, rows, columns, fold, scores, weights, maximum, sums);
  table->share_add(weights, rows, tiles, width, maximum, sums, got);
  // Exponentials to 3 % of themselves in weights and in their sum.
  const double allowed = table->scores_in_integers ? 0.09 : 1e-4;
  for (size_t j = 0; j < columns / fold; j++)
    expect_close("shares of keys", got + j, want + j, 1, allowed * (double)want[j] + 1e-5);
  free(queries), free(prepared), free(keys), free(scratch), free(scores), free(panels), free(exact), free(want), free(got);
  free(maximum), free(sums), free(weights);
}

/// Shares of means in groups that lie scattered, two of which make a weight.
static void test_shares_of_means(const ihp_kernels *table, size_t head, size_t rows, size_t columns, float growth) {
  const size_t tiles = (columns + 63) / 64, known = tiles * 8, bytes = 8 * (2 + head);
  float *queries = randoms(rows * head), *prepared = room(rows * (head + IHP_QUERY_HEADER) * 4);
  float *means = randoms(known * 8 * head), *scores = room(rows * 64 * 4);
  uint8_t *written = room(known * bytes);
  int32_t *firsts = room((known + 8) * 4);
  for (size_t g = 0; g < known; g++) firsts[g] = (int32_t)((g * 7 + 3) % known * 8);
  if (known % 7 == 0)
    for (size_t g = 0; g < known; g++) firsts[g] = (int32_t)(g * 8);
  for (size_t i = 0; i < known * 8; i++) {
    for (size_t k = 0; k < head; k++) means[i * head + k] *= 1 + growth * (float)(i / 64);
    table->quantize_mean(means + i * head, head, written + i / 8 * bytes, i % 8);
  }
  const uint8_t *blocks[1] = {written};
  ihp_rows groups = {blocks, 30, IHP_F32, 0, bytes};
  table->prepare_queries(queries, rows, head, prepared);
  double *exact = room(rows * columns * 8);
  for (size_t t = 0; t < tiles; t++) {
    const size_t left = known - t * 8;
    table->score_means(&groups, firsts + t * 8, left < 8 ? left : 8, left, head, prepared, rows, scores, 64);
    // Columns j and 32 + j make a weight; a tile that is not full has a half of what it has there.
    for (size_t r = 0; r < rows; r++)
      for (size_t j = 0; j < 64; j++) {
        const size_t key = t * 64 + 2 * (j % 32) + j / 32;
        if (key < columns) exact[r * columns + key] = scores[r * 64 + j];
      }
  }
  float *want = room(tiles * 32 * 4), *got = room(tiles * 32 * 4);
  memset(want, 0, tiles * 32 * 4);
  memset(got, 0, tiles * 32 * 4);
  double greatest = 0;
  for (size_t r = 0; r < rows; r++) {
    double most = -INFINITY, sum = 0;
    for (size_t j = 0; j < columns; j++) greatest = fmax(greatest, fabs(exact[r * columns + j]));
    for (size_t j = 0; j < columns; j++) most = fmax(most, exact[r * columns + j]);
    for (size_t j = 0; j < columns; j++) sum += exp(exact[r * columns + j] - most);
    for (size_t j = 0; j < columns; j++) want[j / 2] += (float)(exp(exact[r * columns + j] - most) / sum);
  }
  float *maximum = room(rows * tiles * 4), *sums = room(rows * tiles * 4);
  uint8_t *weights = room(rows * tiles * 32 * table->weight_bytes);
  table->share_means(&groups, firsts, known, head, prepared, rows, columns, scores, weights, maximum, sums);
  table->share_add(weights, rows, tiles, 32, maximum, sums, got);
  // A score in float32 is right to some units in its last place, a weight to as much of itself: twice the worst seen.
  const double allowed = table->scores_in_integers ? 0.09 : 1e-4 + 0x1p-22 * greatest;
  for (size_t j = 0; j < columns / 2; j++)
    expect_close("shares of means", got + j, want + j, 1, allowed * (double)want[j] + 1e-5);
  free(queries), free(prepared), free(means), free(scores), free(written), free(firsts), free(exact), free(want), free(got);
  free(maximum), free(sums), free(weights);
}

/// Products of rounded queries with keys, as all tables have to score them.
static void exact_scores(const float *queries, size_t rows, const float *keys, size_t count, size_t head,
                         int rounds, float *out) {
  for (size_t r = 0; r < rows; r++) {
    const float *query = queries + r * head;
    float most = 0;
    for (size_t k = 0; k < head; k++) most = fmaxf(most, fabsf(query[k]));
    for (size_t j = 0; j < count; j++) {
      double sum = 0;
      for (size_t k = 0; k < head; k++) {
        float element = rounds ? nearbyintf(query[k] * (127 / most)) * (most / 127) : query[k];
        sum += (double)element * (double)keys[j * head + k];
      }
      out[r * 64 + j] = (float)sum;
    }
  }
}

static void test_scores(const ihp_kernels *table, size_t head, size_t rows) {
  enum { groups = 7 };
  float *keys = randoms(64 * head), *queries = randoms(rows * head), *rounded_keys = room(64 * head * 4);
  const int rounds = table->scores_in_integers;
  const double allowed = 1e-5 * (double)head;
  float *prepared = room(rows * (head + IHP_QUERY_HEADER) * 4);
  table->prepare_queries(queries, rows, head, prepared);
  float *got = room(rows * 64 * 4), *want = room(rows * 64 * 4), *exact = room(rows * 64 * 4);

  // Keys in 8 bits, where tables round.
  int32_t indices[64];
  for (int i = 0; i < 64; i++) indices[i] = (i * 13 + 5) % 64;
  const uint8_t *blocks[1] = {(const uint8_t *)keys};
  ihp_rows stored_rows = {blocks, 6, IHP_F32, 0, head * 4};
  const size_t count = 50;
  float *scratch = room(64 * head * 4);
  void *panel = room(table->coarse_bytes * head * 64 + 64 * 4);
  table->pack_coarse(&stored_rows, indices, count, head, NULL, 0, indices, scratch, panel);
  table->score_coarse(panel, head, prepared, rows, got, 64);
  memset(rounded_keys, 0, 64 * head * 4);
  for (size_t j = 0; j < count; j++) {
    const float *key = keys + (size_t)indices[j] * head;
    float most = 0;
    for (size_t k = 0; k < head; k++) most = fmaxf(most, fabsf(key[k]));
    for (size_t k = 0; k < head; k++)
      rounded_keys[j * head + k] = rounds ? nearbyintf(key[k] * (127 / most)) * (most / 127) : key[k];
  }
  exact_scores(queries, rows, rounded_keys, 64, head, rounds, exact);
  expect_close("score_coarse", got, exact, rows * 64, allowed);

  // Sketches: groups of keys in 4 bits, and of means in 8.
  for (int means = 0; means < 2; means++) {
    size_t bytes = means ? 8 * (2 + head) : 8 * (4 + head / 2);
    uint8_t *written = room(groups * bytes), *expected = room(groups * bytes);
    for (size_t j = 0; j < groups * 8; j++) {
      void (*quantize)(const float *, size_t, uint8_t *, size_t) = means ? table->quantize_mean : table->quantize_key;
      quantize(keys + j * head, head, written + j / 8 * bytes, j % 8);
      (means ? base->quantize_mean : base->quantize_key)(keys + j * head, head, expected + j / 8 * bytes, j % 8);
    }
    // Only the baseline divides unfused; a quant on the border may fall on either side.
    size_t different = 0;
    for (size_t i = 0; i < groups * bytes; i++) different += written[i] != expected[i];
    checks++;
    if (different * 1000 > groups * bytes) fail("quantize", 0, (double)different, 0, 0);
    const int32_t firsts[groups] = {40, 0, 16, 48, 24, 8, 32};
    blocks[0] = written;
    ihp_rows group_rows = {blocks, 3, IHP_F32, 0, bytes};
    float *units = room(head * head * 4), *plain = room(head * (head + IHP_QUERY_HEADER) * 4);
    memset(units, 0, head * head * 4);
    for (size_t k = 0; k < head; k++) units[k * head + k] = 1;
    base->prepare_queries(units, head, head, plain);
    for (size_t known = 1; known <= groups; known += 2) {
      // What the keys stand for, by the baseline, one element at a time.
      float *values = room(head * 64 * 4), *transposed = room(64 * head * 4);
      (means ? base->score_means : base->score_four_bits)(&group_rows, firsts, known, known, head, plain, head, values, 64);
      for (size_t j = 0; j < known * 8; j++)
        for (size_t k = 0; k < head; k++) transposed[j * head + k] = values[k * 64 + j];
      (means ? table->score_means : table->score_four_bits)(&group_rows, firsts, known, groups, head, prepared, rows, got, 64);
      exact_scores(queries, rows, transposed, known * 8, head, rounds, exact);
      for (size_t r = 0; r < rows; r++) {
        // A minimum is multiplied with the sum of the query as it was.
        double off = 0, low = 0;
        float most = 0;
        for (size_t k = 0; k < head; k++) most = fmaxf(most, fabsf(queries[r * head + k]));
        for (size_t k = 0; k < head; k++) {
          double x = (double)queries[r * head + k];
          off += x - (double)nearbyintf(queries[r * head + k] * (127 / most)) * (double)most / 127;
        }
        for (size_t j = 0; j < known * 8 && !means && rounds; j++) {
          const uint8_t *least = written + (size_t)firsts[j / 8] / 8 * bytes + 16 + j % 8 * 2;
          uint32_t word = (uint32_t)least[0] << 16 | (uint32_t)least[1] << 24;
          float minimum;
          memcpy(&minimum, &word, 4);
          low = (double)minimum * off;
          exact[r * 64 + j] += (float)low;
        }
        expect_close(means ? "score_means" : "score_four_bits", got + r * 64, exact + r * 64, known * 8, allowed);
      }
      free(values), free(transposed);
    }
    free(units), free(plain), free(written), free(expected);
  }
  free(keys), free(queries), free(rounded_keys), free(prepared), free(got), free(want), free(exact), free(scratch);
  free(panel);
}

/// What is no number must not stop a kernel, nor lead it out of its memory.
static void test_no_numbers(const ihp_kernels *table) {
  enum { n = 256 };
  const float kinds[] = {NAN, INFINITY, -INFINITY, 1e38f};
  for (int kind = 0; kind < 4; kind++) {
    float *x = randoms(n), *prepared = room((2 * n + IHP_PREPARED_EXTRA) * 4), *out = room(64 * 4);
    for (size_t i = 0; i < n; i += kind == 3 ? 1 : 7) x[i] = kinds[kind];
    table->prepare_input(x, n, prepared);
    for (const format *f = formats; f < formats + FORMATS; f++) {
      uint8_t *w = stored(f, 1, n);
      table->matvec(f->element, w, n / f->width * f->bytes, 1, x, prepared, 2 * n + IHP_PREPARED_EXTRA, 1, n, out, 1);
      free(w);
    }
    const uint8_t *blocks[1] = {(const uint8_t *)x};
    ihp_rows keys = {blocks, 6, IHP_F32, 0, n};
    const int32_t indices[4] = {0, 1, 2, 3};
    float *scratch = room(64 * 64 * 4), *panel = room(64 * 65 * 4);
    table->prepare_queries(x, 1, 64, prepared);
    table->pack_coarse(&keys, indices, 4, 64, NULL, 0, indices, scratch, panel);
    table->score_coarse(panel, 64, prepared, 1, out, 64);
    checks++;
    free(x), free(prepared), free(out), free(scratch), free(panel);
  }
}
