/* A C program that uses libmuse: attention of one query to one key gives the key's value back. */
#include <stdio.h>

#include "muse/muse.h"

int main(void) {
  float q[8] = {1, 2, 3}, k[8] = {4, 5, 6}, v[8] = {0, 1, 2, 3, 4, 5, 6, 7}, o[8] = {0}, lse = 0;
  muse_config config;
  muse_call call;
  int d;
  if (muse_config_init(&config, sizeof config) != MUSE_OK || muse_call_init(&call, sizeof call) != MUSE_OK)
    return 1;
  call.Nq = call.Nk = 1;
  call.D = call.Dv = 8;
  call.scale = 0.5;
  call.q.data = q;
  call.k.data = k;
  call.v.data = v;
  call.o.data = o;
  call.lse = &lse;
  if (muse_attention(&config, &call) != MUSE_OK) {
    printf("%s\n", muse_last_error());
    return 1;
  }
  for (d = 0; d < 8; ++d)
    if (o[d] != v[d]) return 1;
  return lse == 16 ? 0 : 1;
}
