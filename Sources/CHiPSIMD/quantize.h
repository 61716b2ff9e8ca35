// SPDX-License-Identifier: Apache-2.0
// Rounds floats to Q4_K: blocks of 32 with a scale and a minimum of 6 bits each, eight of them to a super-block.

/// A block's digits of 4 bits with the scale and the minimum that come nearest to it.
typedef struct four_bit_fit {
  float scale, minimum;
} four_bit_fit;

/// The scale and minimum of the smallest sum of squares among some ways to spread 16 values between the least and the
/// greatest element; x ~ scale * digit - minimum.
INLINE four_bit_fit fit_four_bits(const float *x) {
  float least = 0, most = x[0];
  for (int i = 0; i < BLOCK; i++) {
    least = x[i] < least ? x[i] : least;
    most = x[i] > most ? x[i] : most;
  }
  four_bit_fit best = {0, -least};
  if (!(most > least)) return best;
  float least_error = INFINITY;
  for (int step = -8; step <= 8; step++) {
    float inverse = (15.0f + 0.1f * (float)step) / (most - least);
    // Least squares of x against the digits, with digits as they round.
    float sum_d = 0, sum_dd = 0, sum_x = 0, sum_xd = 0;
    float digits[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
      float digit = rintf((x[i] - least) * inverse);
      digits[i] = digit < 0 ? 0 : digit > 15 ? 15 : digit;
      sum_d += digits[i];
      sum_dd += digits[i] * digits[i];
      sum_x += x[i];
      sum_xd += x[i] * digits[i];
    }
    float determinant = BLOCK * sum_dd - sum_d * sum_d;
    if (!(determinant > 0)) continue;
    float scale = (BLOCK * sum_xd - sum_x * sum_d) / determinant;
    float minimum = (sum_d * sum_xd - sum_dd * sum_x) / determinant;
    // A minimum is not negative.
    if (minimum < 0) {
      minimum = 0;
      scale = sum_xd / sum_dd;
    }
    if (!(scale > 0)) continue;
    float error = 0;
    for (int i = 0; i < BLOCK; i++) {
      float difference = scale * digits[i] - minimum - x[i];
      error += difference * difference;
    }
    if (error < least_error) {
      least_error = error;
      best = (four_bit_fit){scale, minimum};
    }
  }
  return best;
}

static void narrow_Q4_K(const float *x, uint8_t *out) {
  four_bit_fit fit[8];
  float most_scale = 0, most_minimum = 0;
  for (int b = 0; b < 8; b++) {
    fit[b] = fit_four_bits(x + b * BLOCK);
    most_scale = fit[b].scale > most_scale ? fit[b].scale : most_scale;
    most_minimum = fit[b].minimum > most_minimum ? fit[b].minimum : most_minimum;
  }
  memset(out, 0, 144);
  float both[2 * LANES] = {most_scale / 63, most_minimum / 63};
  uint8_t halves[2 * LANES];
  narrow_half(load(both), halves);
  memcpy(out, halves, 4);
  float scale = half_to_float(out), minimum = half_to_float(out + 2);
  for (int b = 0; b < 8; b++) {
    float s = scale > 0 ? rintf(fit[b].scale / scale) : 0, m = minimum > 0 ? rintf(fit[b].minimum / minimum) : 0;
    uint8_t six_s = (uint8_t)(s > 63 ? 63 : s), six_m = (uint8_t)(m > 63 ? 63 : m);
    if (b < 4) {
      out[4 + b] |= six_s;
      out[8 + b] |= six_m;
    } else {
      out[8 + b] = (uint8_t)((six_s & 15) | (six_m & 15) << 4);
      out[b] |= (uint8_t)((six_s >> 4) << 6);
      out[4 + b] |= (uint8_t)((six_m >> 4) << 6);
    }
    // Digits for the scale and the minimum as they are stored.
    float own = scale * six_s, low = minimum * six_m;
    for (int i = 0; i < BLOCK; i++) {
      float digit = own > 0 ? rintf((x[b * BLOCK + i] + low) / own) : 0;
      uint8_t four = (uint8_t)(!(digit > 0) ? 0 : digit > 15 ? 15 : digit);
      out[16 + b / 2 * 32 + i] |= (uint8_t)(b % 2 ? four << 4 : four);
    }
  }
}
