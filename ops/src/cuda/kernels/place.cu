// Crops, mirror images, normalisation and mixing of training images; see `ops/place.rs` for what each means. `places` holds
// dy, dx and flip (0 or 1) per image.
__device__ __forceinline__ int thread() { return blockIdx.x * blockDim.x + threadIdx.x; }

// Pixel of the image that output (y, x) shows; −1 outside.
__device__ __forceinline__ int source(const int* place, int y, int x, int h, int w) {
  const int sy = y + place[0], sx = (place[2] ? w - 1 - x : x) + place[1];
  return sy >= 0 && sy < h && sx >= 0 && sx < w ? sy * w + sx : -1;
}

// (v − mean)/std of images in [0, 1].
extern "C" __global__ void place(const float* x, const int* places, const float* mean, const float* std, float* out,
                                 int n, int h, int w, int c) {
  const int i = thread();
  if (i >= n * h * w * c) return;
  const int ch = i % c, column = i / c % w, y = i / c / w % h, image = i / c / w / h;
  const int from = source(places + 3 * image, y, column, h, w);
  const float v = from < 0 ? 0.0f : x[(image * h * w + from) * c + ch];
  out[i] = (v - mean[ch]) / std[ch];
}

// v·scale + shift of 8-bit images: image i is the rows[i]-th of x, or the i-th where `rows` is null.
extern "C" __global__ void place_bytes(const unsigned char* x, const int* rows, const int* places, const float* scale,
                                       const float* shift, float* out, int n, int h, int w, int c) {
  const int i = thread();
  if (i >= n * h * w * c) return;
  const int ch = i % c, column = i / c % w, y = i / c / w % h, image = i / c / w / h;
  const int from = source(places + 3 * image, y, column, h, w);
  const long long first = (long long)(rows ? rows[image] : image) * h * w * c;
  out[i] = from < 0 ? shift[ch] : (float)x[first + from * c + ch] * scale[ch] + shift[ch];
}

// Every pixel shows up once at most: its gradient is that of the output that shows it.
extern "C" __global__ void place_backward(const float* d, const int* places, const float* std, float* dx, int n, int h,
                                          int w, int c) {
  const int i = thread();
  if (i >= n * h * w * c) return;
  const int ch = i % c, column = i / c % w, y = i / c / w % h, image = i / c / w / h;
  const int* place = places + 3 * image;
  const int oy = y - place[0], shown = column - place[1], ox = place[2] ? w - 1 - shown : shown;
  const bool inside = oy >= 0 && oy < h && shown >= 0 && shown < w;
  dx[i] = inside ? d[((image * h + oy) * w + ox) * c + ch] / std[ch] : 0.0f;
}

// out[i] = λ·x[i] + (1 − λ)·x[partner[i]], row by row.
extern "C" __global__ void mix_rows(const float* x, const int* partner, float lambda, float* out, int rows, int len) {
  const int i = thread();
  if (i >= rows * len) return;
  const int row = i / len;
  out[i] = lambda * x[i] + (1.0f - lambda) * x[partner[row] * len + i % len];
}
