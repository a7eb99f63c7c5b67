// Newton-Schulz orthogonalisation (search/training/optimizer.py) of many small matrices: as tensors, each of its fifteen
// products would be an operation whose start takes longer than the product.
#include <algorithm>
#include <type_traits>

#include "lanes.h"

// A matrix of r <= N * LANES rows and c >= r columns, kept column by column, a column in N vectors.
template <int N>
struct Columns {
  int r, c;
  std::vector<vec> y, square, step;
  Columns(int r, int c) : r(r), c(c), y((long)c * N), square((long)r * N), step((long)r * N) {}
  // out = scale * out + sum over i of weight(i) * rows[i], a vector of N
  template <class Weight>
  void add(const Weight &weight, const vec *rows, float scale, vec *out) const {
    vec sums[N];
    for (int n = 0; n < N; n++) sums[n] = scale * out[n];
    for (int i = 0; i < r; i++) {
      float w = weight(i);
      for (int n = 0; n < N; n++) sums[n] += w * rows[i * N + n];
    }
    for (int n = 0; n < N; n++) out[n] = sums[n];
  }
  void iterate() {  // y <- (3.4445 - 4.7750 S + 2.0315 S^2) y, S = y y'
    std::fill(square.begin(), square.end(), vec{});
    for (int p = 0; p < c; p++) {
      const vec *column = &y[(long)p * N];
      for (int i = 0; i < r; i++) {
        float w = ((const float *)column)[i];
        for (int n = 0; n < N; n++) square[i * N + n] += w * column[n];
      }
    }
    step = square;
    for (int i = 0; i < r; i++) {
      const float *row = (const float *)&square[i * N];
      add([=](int j) { return 2.0315f * row[j]; }, square.data(), -4.7750f, &step[i * N]);
    }
    for (int p = 0; p < c; p++) {
      vec column[N];
      std::memcpy(column, &y[(long)p * N], sizeof column);
      const float *value = (const float *)column;
      add([=](int i) { return value[i]; }, step.data(), 3.4445f, &y[(long)p * N]);
    }
  }
};

// a [rows][columns] to `out`, its singular values all near 0.2 * sqrt(the larger of the two).
template <int N>
static void orthogonal(const float *a, int rows, int columns, float *out) {
  bool tall = rows > columns;  // then its transpose is meant
  Columns<N> own(tall ? columns : rows, tall ? rows : columns);
  auto at = [=, &own](int i, int p) { return tall ? (long)p * own.r + i : (long)i * own.c + p; };
  auto value = [&own](int i, int p) -> float & { return ((float *)&own.y[(long)p * N])[i]; };
  double squares = 0;
  for (long i = 0; i < (long)rows * columns; i++) squares += (double)a[i] * a[i];
  float scale = 1 / ((float)std::sqrt(squares) + 1e-7f), grown = 0.2f * std::sqrt((float)own.c);
  for (int i = 0; i < own.r; i++)
    for (int p = 0; p < own.c; p++) value(i, p) = a[at(i, p)] * scale;
  for (int step = 0; step < 5; step++) own.iterate();
  for (int i = 0; i < own.r; i++)
    for (int p = 0; p < own.c; p++) out[at(i, p)] = value(i, p) * grown;
}

extern "C" {

// Of K rows of P numbers, the `count` matrices [rows][columns] that begin at `starts`; the smaller size is 32 at most.
void orthogonalise(const float *momentum, float *update, int K, long P, const long *starts, const int *rows,
                   const int *columns, int count) {
  for (int k = 0; k < K; k++)
    for (int i = 0; i < count; i++) {
      long at = k * P + starts[i];
      int least = rows[i] < columns[i] ? rows[i] : columns[i];
      auto run = [&](auto n) { orthogonal<decltype(n)::value>(momentum + at, rows[i], columns[i], update + at); };
      if (least <= LANES) run(std::integral_constant<int, 1>());
      else if (least <= 2 * LANES) run(std::integral_constant<int, 2>());
      else if (least <= 4 * LANES) run(std::integral_constant<int, 4>());
      else run(std::integral_constant<int, 8>());
    }
}
}
