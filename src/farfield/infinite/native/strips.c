/* The steps of a program of rectifiers, fused: a strip of a row goes through all of them while it
   stays in the fastest cache. The formulas are those of angles.py and duals/rectified.py; the
   angle t and sin t - t cos t come from polynomials in sin^2(t / 2).
   "left" belongs to the row, "right" to the columns. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { INPUT, MIX, MIX_CONSTANT, SPREAD, RECTIFY, LAYER, COSINE, TOGETHER, MULTIPLY, WEIGH, FILL, STORE };

typedef struct {
    int code;
    int a, together_a, cosine_a;       /* registers of the first angle, or of the first operand */
    int b, together_b, cosine_b;       /* registers of the second angle, or of the second operand */
    int out, together_out, cosine_out; /* registers of the result; -1 where there is none */
    int slope;                         /* register of a rectifier's slope kernel, or -1 */
    int number;                        /* which input or output */
    double kappa;                      /* of a rectifier; or the value to fill with */
    const double *left1, *right1, *left2, *right2; /* row values, such as shares */
    const double *left3, *right3, *left4, *right4;
} Step;

typedef struct {
    double *cosine; /* of the tile, (rows, columns) */
    const double *left_shrunk, *right_shrunk, *left_unit, *right_unit; /* (n, features) */
    const double *left_scale, *right_scale, *left_norm, *right_norm;   /* (n) */
    int features;
} Input;

typedef struct {
    double *values, *mirror; /* places of the tile and of its mirror image, or null */
    ptrdiff_t stride, mirror_stride;
} Output;

#define CLOSE 1e-4
#define TERMS 20
#define GROUP 64  /* rows that are written together */
#define STRIP 256 /* columns that go through all steps together */
#define PITCH 264 /* distance of rows that are written together: not a multiple of the cache's */

/* |a/|a| - sign b/|b||^2 / 2 without cancellation: see Directions in angles.py. */
static double gap(const Input *in, ptrdiff_t i, ptrdiff_t j, double sign)
{
    const int d = in->features;
    const double *a = in->left_shrunk + i * d, *b = in->right_shrunk + j * d;
    const double ratio = in->right_scale[j] / in->left_scale[i];
    double sum = 0.0, dot = 0.0;
    if (ratio < 0.5 || ratio > 2.0) {
        const double *u = in->left_unit + i * d, *v = in->right_unit + j * d;
        for (int k = 0; k < d; k++) {
            const double e = u[k] - sign * v[k];
            sum += e * e;
        }
        return 0.5 * sum;
    }
    const double factor = sign * ratio, long_a = in->left_norm[i], long_b = in->right_norm[j] * ratio;
    const double length = long_a + long_b, scale = 2.0 * long_a * long_b;
    for (int k = 0; k < d; k++) {
        const double other = b[k] * factor;
        dot += (a[k] - other) * (a[k] + other);
    }
    dot /= length;
    for (int k = 0; k < d; k++) {
        const double other = b[k] * factor;
        const double e = ((a[k] - other) * length - (a[k] + other) * dot) / scale;
        sum += e * e;
    }
    return 0.5 * sum;
}

/* The angles of the inputs. Two zero vectors are equal. */
static void input(const Input *in, ptrdiff_t i, ptrdiff_t start, double *restrict c, int n,
                  double *restrict apart, double *restrict together)
{
    int64_t close = 0;
    if (in->left_norm[i] == 0.0)
        for (int j = 0; j < n; j++)
            c[j] = in->right_norm[start + j] == 0.0 ? 1.0 : c[j];
    for (int j = 0; j < n; j++) {
        apart[j] = 1.0 - c[j];
        together[j] = 1.0 + c[j];
        close |= fabs(c[j]) > 1.0 - CLOSE;
    }
    if (!close || in->left_norm[i] == 0.0)
        return;
    for (int j = 0; j < n; j++) {
        if (apart[j] < CLOSE && in->right_norm[start + j] > 0.0)
            apart[j] = gap(in, i, start + j, 1.0);
        if (together[j] < CLOSE && in->right_norm[start + j] > 0.0)
            together[j] = gap(in, i, start + j, -1.0);
    }
}

static void mix(double p1, double q1, const double *restrict p2,
                const double *restrict q2, int n, const double *restrict a,
                const double *restrict b, double *restrict out)
{
    for (int j = 0; j < n; j++) {
        const double dp = p1 - p2[j], dq = q1 - q2[j];
        out[j] = 0.5 * (dp * dp + dq * dq) + p1 * p2[j] * a[j] + q1 * q2[j] * b[j];
    }
}

static void mix_fixed(double p1, double q1, const double *restrict p2, const double *restrict q2,
                      int n, const double *restrict a, double b, double *restrict out)
{
    for (int j = 0; j < n; j++) {
        const double dp = p1 - p2[j], dq = q1 - q2[j];
        out[j] = 0.5 * (dp * dp + dq * dq) + p1 * p2[j] * a[j] + q1 * q2[j] * b;
    }
}

static void blend(double p1, double q1, const double *restrict p2, const double *restrict q2, int n,
                  const double *restrict a, const double *restrict b, double *restrict out)
{
    for (int j = 0; j < n; j++)
        out[j] = p1 * p2[j] * a[j] + q1 * q2[j] * b[j];
}

static void blend_fixed(double p1, double q1, const double *restrict p2, const double *restrict q2,
                        int n, const double *restrict a, double *restrict out)
{
    for (int j = 0; j < n; j++)
        out[j] = p1 * p2[j] * a[j] + q1 * q2[j];
}

/* Of the covariance K - m1 m2: p and q are the shares of the deviation and of the mean. */
static void spread(double p1, double q1, const double *restrict p2, const double *restrict q2,
                   int n, const double *restrict a, const double *restrict c,
                   double *restrict apart, double *restrict together, double *restrict cosine)
{
    for (int j = 0; j < n; j++) {
        const double dp = p1 - p2[j], dq = q1 - q2[j], outer = p1 * p2[j];
        const double unit = outer != 0.0 ? 1.0 / outer : 0.0;
        /* Where nothing varies: orthogonal to all others, equal to its like. */
        const double none = outer == 0.0 && (p1 != 0.0 || p2[j] != 0.0) ? 1.0 : 0.0;
        const double near = none + (a[j] - 0.5 * (dp * dp + dq * dq)) * unit;
        const double far = (c[j] - q1 * q2[j]) * unit;
        const double gap = near > 2.0 ? 2.0 : near > 0.0 ? near : 0.0;
        const double value = gap < 0.5 ? 1.0 - gap : far;
        apart[j] = gap;
        cosine[j] = value;
        together[j] = 1.0 + value;
    }
}

static inline double positive(double x) { return x > 0.0 ? x : 0.0; }

static inline double polynomial(const double *k, double y)
{
    /* Four chains of Horner's scheme, none of which waits for another. */
    const double y2 = y * y, z = y2 * y2;
    const double c0 = (((k[16] * z + k[12]) * z + k[8]) * z + k[4]) * z + k[0];
    const double c1 = (((k[17] * z + k[13]) * z + k[9]) * z + k[5]) * z + k[1];
    const double c2 = (((k[18] * z + k[14]) * z + k[10]) * z + k[6]) * z + k[2];
    const double c3 = (((k[19] * z + k[15]) * z + k[11]) * z + k[7]) * z + k[3];
    return (c0 + c1 * y) + (c2 + c3 * y) * y2;
}

/* share * t and share * (sin t - t cos t) for 1 - cos t <= 1, the second from a polynomial of its
   own so that nothing cancels. */
static inline void arc_exact(const double *k, double share, double apart, double *angle,
                             double *bend)
{
    const double sine = share * sqrt(apart * (2.0 - apart)), y = 2.0 * apart - 1.0;
    *angle = sine * polynomial(k, y);
    *bend = sine * (0.5 * apart) * polynomial(k + TERMS, y);
}

/* The same; the difference is off by about eps t. What it is subtracted from, 1 - cos t, then
   still gives the angle to eps. */
static inline void arc(const double *k, double share, double apart, double *angle, double *bend)
{
    const double sine = share * sqrt(apart * (2.0 - apart));
    *angle = sine * polynomial(k, 2.0 * apart - 1.0);
    *bend = sine - *angle * (1.0 - apart);
}

static void rectify_acute(const double *restrict k, double share, int n, const double *restrict apart,
                          double *restrict out, double *restrict slope)
{
    for (int j = 0; j < n; j++) {
        double t, bend;
        arc(k, share, apart[j], &t, &bend);
        out[j] = positive(apart[j] - bend);
        slope[j] = 1.0 - t;
    }
}

static void rectify(const double *restrict k, double kappa, double share, int n,
                    const double *restrict apart, const double *restrict together,
                    const double *restrict cosine, double *restrict apart_out,
                    double *restrict together_out, double *restrict cosine_out,
                    double *restrict slope)
{
    for (int j = 0; j < n; j++) {
        const double c = cosine[j], a = apart[j], w = together[j];
        double t, bend;
        arc_exact(k, share, c >= 0.0 ? a : w, &t, &bend);
        apart_out[j] = positive((c >= 0.0 ? a : (1.0 + kappa) - kappa * w) - bend);
        together_out[j] = (c >= 0.0 ? w : (1.0 - kappa) + kappa * w) + bend;
        cosine_out[j] = (c >= 0.0 ? c : kappa * c) + bend;
        slope[j] = c >= 0.0 ? 1.0 - t : kappa + t;
    }
}

/* kappa <= 0, such as ReLU and abs: no cosine is negative afterwards. */
static void rectify_folded(const double *restrict k, double kappa, double share, int n,
                           const double *restrict apart, const double *restrict together,
                           double *restrict apart_out, double *restrict cosine_out,
                           double *restrict slope)
{
    for (int j = 0; j < n; j++) {
        const double a = apart[j], w = together[j];
        double t, bend;
        arc_exact(k, share, a <= 1.0 ? a : w, &t, &bend);
        apart_out[j] = positive((a <= 1.0 ? a : (1.0 + kappa) - kappa * w) - bend);
        cosine_out[j] = (a <= 1.0 ? 1.0 - a : kappa * (1.0 - a)) + bend;
        slope[j] = a <= 1.0 ? 1.0 - t : kappa + t;
    }
}

/* A rectifier and the linear map behind it. Of the rectified angle and of a constant the map has
   shares p and q; the tangent above is u cos + v slope tangent. */
#define LAYER_OF(name, nearer, apart_of, slope_of)                                                 \
    static void name(const double *restrict k, double kappa, double share, const double *left,     \
                     const double *restrict p, const double *restrict q, const double *restrict u, \
                     const double *restrict v, int n, const double *restrict apart,                \
                     const double *restrict together, const double *restrict tangent,              \
                     double *restrict apart_out, double *restrict tangent_out)                     \
    {                                                                                              \
        const double p1 = left[0], q1 = left[1], u1 = left[2], v1 = left[3];                       \
        (void)kappa;                                                                               \
        (void)together;                                                                            \
        for (int j = 0; j < n; j++) {                                                              \
            const double a = apart[j], dp = p1 - p[j], dq = q1 - q[j];                             \
            double t, bend;                                                                        \
            arc(k, share, nearer, &t, &bend);                                                      \
            const double next = 0.5 * (dp * dp + dq * dq) + p1 * p[j] * positive((apart_of) - bend); \
            const double both = u1 * u[j], below = v1 * v[j] * tangent[j];                         \
            apart_out[j] = next;                                                                   \
            tangent_out[j] = both - both * next + below * (slope_of);                              \
        }                                                                                          \
    }
LAYER_OF(layer_acute, a, a, 1.0 - t)
LAYER_OF(layer_folded, a <= 1.0 ? a : together[j],
         a <= 1.0 ? a : (1.0 + kappa) - kappa * together[j], a <= 1.0 ? 1.0 - t : kappa + t)

static void affine(int n, double start, double factor, const double *restrict a, double *restrict out)
{
    for (int j = 0; j < n; j++)
        out[j] = start + factor * a[j];
}

static void fill(int n, double value, double *restrict out)
{
    for (int j = 0; j < n; j++)
        out[j] = value;
}

static void multiply(int n, const double *restrict a, const double *restrict b, double *restrict out)
{
    for (int j = 0; j < n; j++)
        out[j] = a[j] * b[j];
}

/* One term of a sum: a share of both roots times a, 1 - a, or a b; with what is there already. */
#define WEIGH(name, term)                                                                          \
    static void name(int n, double left, const double *restrict right, const double *restrict a,   \
                     const double *restrict b, const double *restrict before,                      \
                     double *restrict out)                                                         \
    {                                                                                              \
        (void)b;                                                                                   \
        if (before)                                                                                \
            for (int j = 0; j < n; j++)                                                            \
                out[j] = before[j] + left * right[j] * (term);                                     \
        else                                                                                       \
            for (int j = 0; j < n; j++)                                                            \
                out[j] = left * right[j] * (term);                                                 \
    }
WEIGH(weigh_plain, a[j])
WEIGH(weigh_apart, 1.0 - a[j])
WEIGH(weigh_product, a[j] * b[j])

static void store(int n, double left, const double *restrict right, const double *restrict a,
                  double *restrict out)
{
    for (int j = 0; j < n; j++)
        out[j] = a[j] * left * right[j];
}

/* Write numbers that will not be read soon: past the cache, without reading the memory first. */
static void stream(double *to, const double *from, int n)
{
    int j = 0;
#ifdef __SSE2__
    for (; j < n && ((uintptr_t)(to + j) & 15); j++)
        to[j] = from[j];
    for (; j + 2 <= n; j += 2)
        _mm_stream_pd(to + j, _mm_loadu_pd(from + j));
#endif
    for (; j < n; j++)
        to[j] = from[j];
}

/* Write a group of rows to its place and into the columns of its mirror image, which squares of
   eight in the fastest cache turn. */
static void deliver(const Output *out, const double *restrict group, int start, int count,
                    int column, int columns)
{
    enum { SIDE = 8 };
    for (int i = 0; i < count; i++)
        stream(out->values + (start + i) * out->stride + column, group + (ptrdiff_t)i * PITCH,
               columns);
    if (!out->mirror || out->mirror == out->values)
        return;
    for (int j0 = 0; j0 < columns; j0 += SIDE) {
        const int wide = columns - j0 < SIDE ? columns - j0 : SIDE;
        double turned[SIDE][GROUP];
        int i = 0;
#ifdef __SSE2__
        for (; wide == SIDE && i + 2 <= count; i += 2) {
            const double *one = group + (ptrdiff_t)i * PITCH + j0, *two = one + PITCH;
            for (int j = 0; j < SIDE; j += 2) {
                const __m128d a = _mm_loadu_pd(one + j), b = _mm_loadu_pd(two + j);
                _mm_storeu_pd(&turned[j][i], _mm_unpacklo_pd(a, b));
                _mm_storeu_pd(&turned[j + 1][i], _mm_unpackhi_pd(a, b));
            }
        }
#endif
        for (; i < count; i++)
            for (int j = 0; j < wide; j++)
                turned[j][i] = group[(ptrdiff_t)i * PITCH + j0 + j];
        for (int j = 0; j < wide; j++)
            stream(out->mirror + (column + j0 + j) * out->mirror_stride + start, turned[j], count);
    }
}

/* A tile on the diagonal is its own mirror image: complete it below the diagonal. */
static void complete(const Output *out, int rows)
{
    enum { SIDE = 16 };
    for (int i0 = 0; i0 < rows; i0 += SIDE)
        for (int j0 = 0; j0 <= i0; j0 += SIDE)
            for (int i = i0; i < i0 + SIDE && i < rows; i++)
                for (int j = j0; j < j0 + SIDE && j < i; j++)
                    out->values[i * out->stride + j] = out->values[j * out->stride + i];
}

typedef struct {
    const Step *steps;
    int count;
    const Input *inputs;
    const double *coefficients;
    double *registers, *groups; /* of STRIP and of PITCH numbers each */
    ptrdiff_t row, column;      /* of the tile's first entry */
    int width;                  /* columns of the tile */
} Tile;

/* Run all steps for one strip of a row: row i of the tile, its columns from start on. */
static void run_strip(const Tile *tile, int i, int start, int columns)
{
#define AT(r) (tile->registers + (ptrdiff_t)(r) * STRIP)
#define GROUPED(k, i) (tile->groups + ((ptrdiff_t)(k) * GROUP + (i)) * PITCH)
    const ptrdiff_t at = tile->row + i, column = tile->column + start;
    const double *coefficients = tile->coefficients;
    for (int number = 0; number < tile->count; number++) {
        const Step *s = tile->steps + number;
        const double *right1 = s->right1 ? s->right1 + column : NULL;
        const double *right2 = s->right2 ? s->right2 + column : NULL;
        const double left1 = s->left1 ? s->left1[at] : 0.0, left2 = s->left2 ? s->left2[at] : 0.0;
        switch (s->code) {
        case INPUT: {
            const Input *in = tile->inputs + s->number;
            double *cosine = in->cosine + (ptrdiff_t)i * tile->width + start;
            input(in, at, column, cosine, columns, AT(s->out), AT(s->together_out));
            if (s->cosine_out >= 0)
                memcpy(AT(s->cosine_out), cosine, (size_t)columns * sizeof(double));
            break;
        }
        case MIX:
            mix(left1, left2, right1, right2, columns, AT(s->a), AT(s->b), AT(s->out));
            if (s->together_out >= 0)
                mix(left1, left2, right1, right2, columns, AT(s->together_a),
                    AT(s->together_b), AT(s->together_out));
            if (s->cosine_out >= 0)
                blend(left1, left2, right1, right2, columns, AT(s->cosine_a), AT(s->cosine_b),
                      AT(s->cosine_out));
            break;
        case MIX_CONSTANT:
            mix_fixed(left1, left2, right1, right2, columns, AT(s->a), 0.0, AT(s->out));
            if (s->together_out >= 0)
                mix_fixed(left1, left2, right1, right2, columns, AT(s->together_a), 2.0,
                          AT(s->together_out));
            if (s->cosine_out >= 0)
                blend_fixed(left1, left2, right1, right2, columns, AT(s->cosine_a),
                            AT(s->cosine_out));
            break;
        case SPREAD:
            spread(left1, left2, right1, right2, columns, AT(s->a), AT(s->cosine_a),
                   AT(s->out), AT(s->together_out), AT(s->cosine_out));
            break;
        case RECTIFY:
            if (s->together_a < 0)
                rectify_acute(coefficients, (1.0 - s->kappa) * M_1_PI, columns, AT(s->a),
                              AT(s->out), AT(s->slope));
            else if (s->together_out < 0)
                rectify_folded(coefficients, s->kappa, (1.0 - s->kappa) * M_1_PI, columns,
                               AT(s->a), AT(s->together_a), AT(s->out), AT(s->cosine_out),
                               AT(s->slope));
            else
                rectify(coefficients, s->kappa, (1.0 - s->kappa) * M_1_PI, columns, AT(s->a),
                        AT(s->together_a), AT(s->cosine_a), AT(s->out), AT(s->together_out),
                        AT(s->cosine_out), AT(s->slope));
            break;
        case LAYER: {
            const double left[] = {left1, left2, s->left3[at], s->left4[at]};
            (s->together_a < 0 ? layer_acute : layer_folded)(
                coefficients, s->kappa, (1.0 - s->kappa) * M_1_PI, left, right1, right2,
                s->right3 + column, s->right4 + column, columns, AT(s->a), AT(s->together_a),
                AT(s->b), AT(s->out), AT(s->slope));
            break;
        }
        case COSINE:
            affine(columns, 1.0, -1.0, AT(s->a), AT(s->out));
            break;
        case TOGETHER:
            affine(columns, 2.0, -1.0, AT(s->a), AT(s->out));
            break;
        case MULTIPLY:
            multiply(columns, AT(s->a), AT(s->b), AT(s->out));
            break;
        case WEIGH:
            (s->number == 0   ? weigh_plain
             : s->number == 1 ? weigh_apart
                              : weigh_product)(columns, left1, right1, AT(s->a),
                                               AT(s->together_a), s->b < 0 ? NULL : AT(s->b),
                                               AT(s->out));
            break;
        case FILL:
            fill(columns, s->kappa, AT(s->out));
            break;
        case STORE:
            store(columns, left1, right1, AT(s->a), GROUPED(s->number, i % GROUP));
            break;
        }
    }
}

/* Run all steps for the tile of these rows and columns, and write the outputs. */
void run(const Step *steps, int count, const Input *inputs, const Output *outputs, int n_outputs,
         const double *coefficients, double *registers, double *groups, ptrdiff_t row, int rows,
         ptrdiff_t column, int columns)
{
    const Tile tile = {steps, count, inputs, coefficients, registers, groups, row, column, columns};
    const int on_diagonal = outputs[0].mirror == outputs[0].values;
    for (int start = 0; start < columns; start += STRIP) {
        const int wide = columns - start < STRIP ? columns - start : STRIP;
        /* Below the diagonal the mirror image is all there is to do. */
        const int last = on_diagonal && start + wide < rows ? start + wide : rows;
        for (int first = 0; first < last; first += GROUP) {
            const int tall = rows - first < GROUP ? rows - first : GROUP;
            for (int i = first; i < first + tall; i++)
                run_strip(&tile, i, start, wide);
            for (int k = 0; k < n_outputs; k++)
                deliver(outputs + k, groups + (ptrdiff_t)k * GROUP * PITCH, first, tall, start, wide);
        }
    }
#ifdef __SSE2__
    _mm_sfence();
#endif
    for (int k = 0; k < n_outputs; k++)
        if (outputs[k].mirror == outputs[k].values)
            complete(outputs + k, rows);
}
