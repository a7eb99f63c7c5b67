// Blocks that transform their map on a coarser level than the first (`LiteConfig.cycle`). Of the first level they need LL
// alone, [R][h][w]; all that follows happens on maps of a quarter of its size, or a sixteenth, up to their output, which
// is up-sampled to [h][w] and from there on treated as that of any other block.
#pragma once
#include <algorithm>

#include "strips.h"

// Whether any of D blocks is on a coarser level than the first.
static bool take_turns(const int *levels, int D) {
  return std::any_of(levels, levels + D, [](int level) { return level > 1; });
}

// LL of [R][h][w], to maps of [h/2][w/2], `apart` from channel to channel; may be in place.
static void halve(const vec *source, int R, int h, int w, vec *out, long apart) {
  for (int c = 0; c < R; c++)
    for (int i = 0; i < h / 2; i++)
      for (int j = 0; j < w / 2; j++) {
        const vec *q = source + ((long)c * h + 2 * i) * w + 2 * j;
        out[c * apart + (long)i * (w / 2) + j] = 0.5f * (q[0] + q[1] + q[w] + q[w + 1]);
      }
}
// Its adjoint, from maps of [h][w] to those of [2h][2w]; may be in place, so the last comes first.
static void halve_adjoint(const vec *source, int R, int h, int w, vec *out, long apart) {
  for (int c = R - 1; c >= 0; c--)
    for (int i = h - 1; i >= 0; i--)
      for (int j = w - 1; j >= 0; j--) {
        vec each = 0.5f * source[((long)c * h + i) * w + j], *q = out + c * apart + 4l * i * w + 2 * j;
        q[0] = q[1] = q[2 * w] = q[2 * w + 1] = each;
      }
}

// LL of the first level of an up-sampled plane [h][w]: put(at, value). It is its own adjoint.
template <class Put>
static void low_of_up(int up, const vec *plane, int h, int w, const Put &put) {
  for (int i = 0; i < h; i++) {
    const vec *here = plane + (long)i * w;
    long at = (long)i * w;
    if (up == BILINEAR)  // along an axis the two pixels of one hold 1.5 of it and 0.25 of both its neighbours
      bilinear_both_row(i ? here - w : here, here, i + 1 < h ? here + w : here, w, 1.5f, 0.25f,
                        [&](int j, vec e) { put(at + j, 0.5f * e); });
    else
      for (int j = 0; j < w; j++) put(at + j, 2 * here[j]);
  }
}

// The levels after the first, `times` of them, of maps whose LL is [R][h][w].
struct Coarse {
  int R, h, w, times;
  int height() const { return h >> times; }
  int width() const { return w >> times; }
  long pixels() const { return (long)height() * width(); }

  // LL of the first level, which is lost, to the bands of the last, [4R][height][width].
  void down(vec *low, vec *bands) const {
    for (int t = 0; t + 1 < times; t++) halve(low, R, h >> t, w >> t, low, (long)(h >> (t + 1)) * (w >> (t + 1)));
    haar(low, R, 2 * height(), 2 * width(), bands);
  }
  void down_adjoint(const vec *bands, vec *low) const {
    haar_adjoint(bands, nullptr, R, 2 * height(), 2 * width(), low, 4 * pixels());
    for (int t = times - 2; t >= 0; t--)
      halve_adjoint(low, R, h >> (t + 1), w >> (t + 1), low, (long)(h >> t) * (w >> t));
  }
  // A plane [height][width], up-sampled to [h][w]. space: [h][w].
  void finer(int up, const vec *plane, vec *out, vec *space) const {
    for (int t = times; t > 0; t--) {
      vec *to = t % 2 ? out : space;
      if (up == BILINEAR)
        bilinear(plane, h >> t, w >> t, to);
      else
        for (int i = 0; i < h >> (t - 1); i++)
          for (int j = 0; j < w >> (t - 1); j++)
            to[(long)i * (w >> (t - 1)) + j] = plane[(long)i / 2 * (w >> t) + j / 2];
      plane = to;
    }
  }
  // Its adjoint, in place: what is written has been read.
  void finer_adjoint(int up, vec *plane) const {
    for (int t = 1; t <= times; t++)
      if (up == BILINEAR)
        bilinear_adjoint(plane, h >> t, w >> t, plane);
      else
        for (int i = 0; i < h >> t; i++)
          for (int j = 0; j < w >> t; j++) {
            const vec *q = plane + 4l * i * (w >> t) + 2 * j;
            plane[(long)i * (w >> t) + j] = q[0] + q[1] + q[2 * (w >> t)] + q[2 * (w >> t) + 1];
          }
  }
};
