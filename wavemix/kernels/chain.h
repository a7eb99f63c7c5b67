// What chain.cpp and transposed.cpp share: the parts of a residual block in a member's row of `flat`, BatchNorm.
#pragma once
#include "lanes.h"

// An offset is -1 where there is no such part.
// UP: a transposed convolution, or a depthwise one before interpolation.
enum { REDUCTION, REDUCTION_BIAS, FIRST, FIRST_BIAS, SECOND, SECOND_BIAS, UP, UP_BIAS, GAMMA, BETA, PARTS };

struct Affine { float scale, shift; };  // BatchNorm of one channel as a multiplication and an addition

struct Block {  // one block's parameters of one member
  const float *part[PARTS];
  Block(const float *flat, long P, int member, const long *offsets) {
    for (int i = 0; i < PARTS; i++) part[i] = offsets[i] < 0 ? nullptr : flat + member * P + offsets[i];
  }
  Affine norm(int c, float mean, float variance, float eps) const {
    float scale = part[GAMMA][c] / std::sqrt(variance + eps);
    return {scale, part[BETA][c] - mean * scale};
  }
};

struct Sums { float gradient, product; };  // of a gradient, and of its product with the normalised map

// Those of one member's channel, from what each group measured. Added to the gradients of BETA and GAMMA.
static Sums measured(const std::vector<double> &part, int m, int G, int C, int c, const long *own, float *dflat) {
  double s1 = 0, s2 = 0;
  for (int g = 0; g < G; g++) {
    s1 += part[(((long)m * G + g) * C + c) * 2];
    s2 += part[(((long)m * G + g) * C + c) * 2 + 1];
  }
  dflat[own[BETA] + c] += s1;
  dflat[own[GAMMA] + c] += s2;
  return {(float)s1, (float)s2};
}

// Rows of the small map that are worked on at once: their pixels fill tiles and stay in the first cache.
static int strip_rows(int h, int w) {
  int rows = 1;
  while (rows < h && (rows * w < 28 || rows * w % 4)) rows++;
  return rows;
}
