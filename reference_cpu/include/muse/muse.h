/* The C interface of MuSe: attention on the CPU or on a GPU, for any language that can load a shared library.
 *
 * Plain C, no exceptions, no hidden state but the message of the last error, which is kept for each thread.
 * Structs say their size, so that a later version can add fields at their end; enumerators keep their
 * numbers. The library builds without CUDA: MUSE_DEVICE_CUDA then answers MUSE_ERROR_NO_DEVICE.
 *
 *   muse_config config;
 *   muse_config_init(&config, sizeof config);
 *   muse_config_set(&config, "mode", "acausal");        options as the command line has them (docs/tour.md)
 *   muse_call call;
 *   muse_call_init(&call, sizeof call);
 *   call.device = MUSE_DEVICE_CUDA; call.Nq = call.Nk = 8192; call.q.data = ...;
 *   if (muse_workspace_size(&config, &call, &bytes, NULL) != MUSE_OK) puts(muse_last_error());
 *   call.workspace = ...;
 *   if (muse_attention(&config, &call) != MUSE_OK) puts(muse_last_error());
 */
#ifndef MUSE_MUSE_H
#define MUSE_MUSE_H

#include <stdint.h>

#if defined(_WIN32)
#define MUSE_API
#else
#define MUSE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Version of this interface. Programs built with another one must not be mixed with this library. */
#define MUSE_ABI_VERSION 1

/* Entries of a list by level; the last one that is set stands for all higher levels. */
#define MUSE_MAX_LEVELS 24

/* What every function returns. MUSE_OK is 0. */
typedef enum muse_status {
  MUSE_OK = 0,
  MUSE_ERROR_ARGUMENT =
      1, /* an argument makes no sense: null, misaligned, out of range, a wrong struct size */
  MUSE_ERROR_UNSUPPORTED =
      2, /* it makes sense, but this device does not do it; nothing else was computed instead */
  MUSE_ERROR_WORKSPACE = 3, /* the workspace is too small */
  MUSE_ERROR_NO_DEVICE = 4, /* the library was built without CUDA, or there is no GPU */
  MUSE_ERROR_DEVICE = 5,    /* CUDA reported an error */
  MUSE_ERROR_MEMORY = 6,    /* the CPU ran out of memory */
  MUSE_ERROR_INTERNAL = 7   /* a fault of the library */
} muse_status;

/* Enumerators travel as int32_t, whose size is the same everywhere. */
enum { MUSE_DEVICE_CPU = 0, MUSE_DEVICE_CUDA = 1 };
enum { MUSE_FLOAT32 = 0, MUSE_FLOAT16 = 1, MUSE_BFLOAT16 = 2 };
enum { MUSE_MODE_ACAUSAL = 0, MUSE_MODE_CAUSAL = 1, MUSE_MODE_CAUSAL_SHARED = 2 };
enum {
  MUSE_ORDER_CENTROID = 0,
  MUSE_ORDER_MONOPOLE = 1,
  MUSE_ORDER_DIPOLE = 2,
  MUSE_ORDER_DIPOLE_VALUE = 3,
  MUSE_ORDER_DIPOLE_SPREAD = 4
};
enum { MUSE_CLUSTER_BY_KMEANS = 0, MUSE_CLUSTER_BY_BALANCED = 1, MUSE_CLUSTER_BY_SPATIAL = 2 };
enum { MUSE_METRIC_EUCLIDEAN = 0, MUSE_METRIC_KEY_COVARIANCE = 1 };
enum { MUSE_RETRIEVE_BY_MASS = 0, MUSE_RETRIEVE_BY_MEAN_WEIGHT = 1 };

/* Clusters of a span of S tokens: S / divisor clamped to low..high; divisor 0: low. Never more than S. */
typedef struct muse_cluster_rule {
  int64_t divisor, low, high;
} muse_cluster_rule;

/* The parameters of the method; docs/tour.md explains each. */
typedef struct muse_config {
  uint32_t struct_size;      /* sizeof(muse_config) */
  int32_t mode;              /* MUSE_MODE_… */
  int32_t order;             /* MUSE_ORDER_… */
  int32_t cluster_by;        /* MUSE_CLUSTER_BY_… */
  int32_t metric;            /* MUSE_METRIC_… */
  int32_t clusters_q_levels; /* entries of clusters_q that are set: 1 to MUSE_MAX_LEVELS */
  int32_t clusters_k_levels; /* likewise */
  int32_t retrieve_levels;   /* likewise */
  muse_cluster_rule clusters_q[MUSE_MAX_LEVELS];
  muse_cluster_rule clusters_k[MUSE_MAX_LEVELS];
  int64_t retrieve[MUSE_MAX_LEVELS]; /* r */
  int64_t block;                     /* B, tokens */
  int64_t passes;                    /* T */
  int64_t cluster_window;            /* tokens; 0: clusters are made afresh at each level */
  uint64_t seed;
  int64_t sample;      /* the passes look at every n-th token; at least 1 */
  int32_t retrieve_by; /* MUSE_RETRIEVE_BY_… */
  int32_t reserved;    /* 0 */
} muse_config;

/* A tensor [batch, heads, tokens, dim]. Features lie side by side; strides count elements. All strides 0:
 * dense. */
typedef struct muse_tensor {
  void* data; /* on the device of the call; never written for q, k, v */
  int64_t stride_batch, stride_head, stride_token;
} muse_tensor;

/* Shapes, inputs, outputs and memory of a call. Query head h uses key and value head h / (heads_q /
 * heads_kv). */
typedef struct muse_call {
  uint32_t struct_size; /* sizeof(muse_call) */
  int32_t device;       /* MUSE_DEVICE_… */
  int32_t dtype;        /* MUSE_FLOAT32, …, of q, k, v and o; sums are float32 */
  int32_t reserved;     /* 0 */
  int64_t batch, heads_q, heads_kv;
  int64_t Nq, Nk; /* tokens; equal in causal modes */
  int64_t D, Dv;  /* on CUDA multiples of 8 up to 256 */
  double scale;   /* s; 0: 1/sqrt(D) */
  /* On CUDA every row begins at a multiple of 16 bytes. */
  muse_tensor q; /* [batch, heads_q, Nq, D] */
  muse_tensor k; /* [batch, heads_kv, Nk, D] */
  muse_tensor v; /* [batch, heads_kv, Nk, Dv] */
  muse_tensor o; /* [batch, heads_q, Nq, Dv] */
  float* lse;    /* [batch, heads_q, Nq] log-sum-exp, natural logarithm; or null */
  /* Cluster of each token at each level, -1 where it takes no part: dense [batch, heads, levels, tokens]; or
   * null. Given labels are used instead of clustering. Labels out are those that the call used. */
  const int32_t* labels_q; /* [batch, heads_q, levels, Nq] */
  const int32_t* labels_k; /* [batch, heads_kv, levels, Nk] */
  int32_t* labels_q_out;
  int32_t* labels_k_out;
  /* CUDA: device memory at a multiple of 256 bytes, of muse_workspace_size bytes. The CPU needs none. */
  void* workspace;
  uint64_t workspace_size;
  void* stream; /* CUDA: the cudaStream_t to queue on; null: the default stream */
  /* A query head retrieves at most so many of the config's r clusters, at every level; or null. What is
   * needed for an error differs much from head to head. */
  const int32_t* retrieve_heads; /* [heads_q], on the device of the call */
} muse_call;

/* MUSE_ABI_VERSION of the library that is loaded, and its release, such as "0.1.0". */
MUSE_API uint32_t muse_abi_version(void);
MUSE_API const char* muse_version(void);

/* What went wrong in this thread's last call that failed: what was expected, what was found. Stays valid
 * until the thread's next call. Empty if none failed. */
MUSE_API const char* muse_last_error(void);
/* "MUSE_OK", "MUSE_ERROR_ARGUMENT", …; "unknown status" for other numbers. */
MUSE_API const char* muse_status_name(int32_t status);

/* MUSE_OK if the device can be used. */
MUSE_API muse_status muse_device_status(int32_t device);

/* Sets every field to its default. struct_size is sizeof of the caller's struct. */
MUSE_API muse_status muse_config_init(muse_config* config, uint32_t struct_size);
MUSE_API muse_status muse_call_init(muse_call* call, uint32_t struct_size);

/* Sets one parameter from text, as the command line takes it: muse_config_set(&c, "clusters", "S/16:32:512").
 */
MUSE_API muse_status muse_config_set(muse_config* config, const char* name, const char* text);

/* Levels of the hierarchy: the third extent of labels. Looks at shapes only, not at pointers. */
MUSE_API muse_status muse_level_count(const muse_config* config, const muse_call* call, int64_t* levels);

/* Bytes of workspace that the call works best with, and the fewest that it takes; either pointer may be null.
 * Looks at shapes only, not at pointers. */
MUSE_API muse_status muse_workspace_size(const muse_config* config, const muse_call* call, uint64_t* best,
                                         uint64_t* least);

/* MuSe attention. On CUDA it is queued on the stream and returns before it is done; it allocates nothing and
 * waits for nothing, and can be captured in a graph. On the CPU it is done when it returns, computed in
 * float32. */
MUSE_API muse_status muse_attention(const muse_config* config, const muse_call* call);

#ifdef __cplusplus
}
#endif

#endif
