/* Runs an exported network on the images from standard input and writes the scores; REPETITIONS says how often. */
#include <stdio.h>

int wavemix_predict(const float *image, float *scores);

int main(void) {
  static float image[IMAGE_NUMBERS], scores[SCORE_NUMBERS];
  while (fread(image, sizeof *image, IMAGE_NUMBERS, stdin) == IMAGE_NUMBERS) {
    for (int i = 0; i < REPETITIONS; i++) wavemix_predict(image, scores);
    if (fwrite(scores, sizeof *scores, SCORE_NUMBERS, stdout) != SCORE_NUMBERS) return 1;
  }
  return 0;
}
