/* Classifies one image with an exported SavedModel in C, without Python.

   TF=$(python -c "import tensorflow as tf; print(tf.sysconfig.get_lib())")
   gcc serve.c -I$TF/include -L$TF -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2 \
       -Wl,-rpath,$TF -o serve
   ./serve EXPORT_DIR INPUT OUTPUT SIZE CLASSES < pixels

   INPUT and OUTPUT are the names that `saved_model_cli show --dir EXPORT_DIR --tag_set serve
   --signature_def fixed` prints, without ":0". The pixels are SIZE x SIZE x 3 bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

static void check(TF_Status *status, const char *what) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "%s: %s\n", what, TF_Message(status));
    exit(1);
  }
}

static TF_Output named(TF_Graph *graph, char *name) {
  char *colon = strchr(name, ':');
  int index = colon ? atoi(colon + 1) : 0;
  if (colon) *colon = 0;
  TF_Output found = {TF_GraphOperationByName(graph, name), index};
  if (!found.oper) {
    fprintf(stderr, "The graph has no %s.\n", name);
    exit(1);
  }
  return found;
}

int main(int argc, char **argv) {
  if (argc != 6) {
    fprintf(stderr, "usage: serve EXPORT_DIR INPUT OUTPUT SIZE CLASSES < pixels\n");
    return 2;
  }
  int64_t size = atoi(argv[4]), shape[4] = {1, size, size, 3};
  int classes = atoi(argv[5]);
  size_t length = (size_t)(size * size * 3);
  const char *tags[] = {"serve"};
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph,
                                                     NULL, status);
  check(status, argv[1]);
  TF_Output input = named(graph, argv[2]), output = named(graph, argv[3]);
  TF_Tensor *image = TF_AllocateTensor(TF_UINT8, shape, 4, length), *answer = NULL;
  if (fread(TF_TensorData(image), 1, length, stdin) != length) {
    fprintf(stderr, "standard input must have %zu bytes\n", length);
    return 1;
  }
  TF_SessionRun(session, NULL, &input, &image, 1, &output, &answer, 1, NULL, 0, NULL, status);
  check(status, "run");
  const float *probabilities = TF_TensorData(answer);
  for (int i = 0; i < classes; i++) printf("%.6f\n", probabilities[i]);
  return 0;
}
