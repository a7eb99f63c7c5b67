/* Runs an exported network, which is included before this, on the images from standard input and writes the scores. */
#include <stdio.h>

int main(void) {
  static float image[IMAGE_NUMBERS], scores[CLASSES];
  while (fread(image, sizeof *image, IMAGE_NUMBERS, stdin) == IMAGE_NUMBERS) {
    for (int i = 0; i < REPETITIONS; i++) wavemix_predict(image, scores);
    if (fwrite(scores, sizeof *scores, CLASSES, stdout) != CLASSES) return 1;
  }
  return 0;
}
