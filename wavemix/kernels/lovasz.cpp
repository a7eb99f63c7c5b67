// The Lovasz-Softmax loss (search/tasks/losses.py) and its gradient. Almost all of its time is the sorting of errors, a
// quarter of a million for each class; between 0 and 1, their bits are whole numbers in the same order, which radix sort
// takes in three passes.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "threads.h"

// A pixel: how far its error is below 1, in units of float's bits, and its place with one bit for "has the class".
struct Pixel { uint32_t below, place; };

struct Sorted {
  static constexpr int PASSES = 3, BITS = 10;
  std::vector<Pixel> pixels, spare;
  std::vector<int> counts;
  void clear() {
    pixels.clear();
    counts.assign(PASSES << BITS, 0);
  }
  static int digit(uint32_t below, int pass) { return below >> (pass * BITS) & ((1 << BITS) - 1); }
  void add(float error, uint32_t place) {
    uint32_t bits;
    std::memcpy(&bits, &error, sizeof bits);
    uint32_t below = 0x3f800000 - bits;  // 1's bits, less than 2^30
    for (int pass = 0; pass < PASSES; pass++) counts[(pass << BITS) + digit(below, pass)]++;
    pixels.push_back({below, place});
  }
  // the largest error first
  void sort() {
    spare.resize(pixels.size());
    for (int pass = 0; pass < PASSES; pass++) {
      int *next = &counts[pass << BITS];
      for (int value = 0, before = 0; value < 1 << BITS; value++) before += std::exchange(next[value], before);
      for (Pixel pixel : pixels) spare[next[digit(pixel.below, pass)]++] = pixel;
      pixels.swap(spare);
    }
  }
};

static float error_of(Pixel pixel) {
  uint32_t bits = 0x3f800000 - pixel.below;
  float error;
  std::memcpy(&error, &bits, sizeof error);
  return error;
}

// A class's loss, and `gradient` by its probabilities, which is written for the pixels of `sorted` alone.
static double of_class(Sorted &sorted, long true_pixels, int present, float *gradient) {
  sorted.sort();
  double loss = 0, jaccard = 0;
  long found = 0, other = 0;
  for (Pixel pixel : sorted.pixels) {
    bool own = pixel.place & 1;
    own ? found++ : other++;
    double grown = 1 - (double)(true_pixels - found) / (true_pixels + other), step = grown - jaccard;
    jaccard = grown;
    loss += error_of(pixel) * step;
    gradient[pixel.place >> 1] = (own ? -step : step) / present;
  }
  return loss;
}

extern "C" {

// Probabilities [N][K][P], 2^31 of them at most, and labels [N][P] -> the mean loss of the classes that have a pixel, and
// its gradient by the probabilities. Labels below 0 or from K on are ignored.
void lovasz(const float *chances, const int64_t *labels, float *gradient, float *loss, int N, int K, long P) {
  std::vector<long> sizes(K);
  for (long i = 0; i < N * P; i++)
    if (labels[i] >= 0 && labels[i] < K) sizes[labels[i]]++;
  int present = 0;
  for (long size : sizes) present += size > 0;
  std::memset(gradient, 0, sizeof(float) * N * K * P);
  std::vector<double> losses(K);
  std::vector<Sorted> sorted(workers());
  parallel(K, [&](int k, int worker) {
    if (!sizes[k]) return;
    Sorted &own = sorted[worker];
    own.clear();
    own.pixels.reserve(N * P);
    bool number = true;
    for (int n = 0; n < N; n++) {
      const float *chance = chances + ((long)n * K + k) * P;
      for (long p = 0; p < P; p++) {
        int64_t label = labels[n * P + p];
        if (label < 0 || label >= K) continue;
        number &= chance[p] == chance[p];
        float error = std::fmin(1.f, std::fmax(0.f, label == k ? 1 - chance[p] : chance[p]));
        own.add(error, (uint32_t)(n * K * P + p) << 1 | (label == k));
      }
    }
    losses[k] = number ? of_class(own, sizes[k], present, gradient + k * P) : NAN;
  });
  double total = 0;
  for (int k = 0; k < K; k++) total += losses[k];
  *loss = present ? total / present : 0;
}
}
