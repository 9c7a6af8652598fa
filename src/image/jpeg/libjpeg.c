/* Decodes JPEG with libjpeg-turbo. Every longjmp stays within this file and the library. */

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>
#include <jerror.h>

#ifndef LIBJPEG_TURBO_VERSION
#error "jpeglib.h is not libjpeg-turbo's; install libjpeg-turbo's development package"
#endif

/* The order is that of `Kind` in libjpeg.rs. */
enum kind {
    KIND_DAMAGED,
    KIND_TRUNCATED,
    KIND_PROCESS,   /* detail: the SOF marker */
    KIND_PRECISION, /* detail: bits per sample */
    KIND_SAMPLING,
    KIND_HEIGHT,
    KIND_SCANS,
    KIND_MEMORY
};

/* The order is that of `Colour` in libjpeg.rs. */
enum colour { COLOUR_GREY, COLOUR_RGB, COLOUR_CMYK, COLOUR_OTHER };

struct turret_jpeg_failure {
    int32_t kind;
    int32_t detail;
    char message[JMSG_LENGTH_MAX];
};

struct turret_jpeg_header {
    uint32_t width;
    uint32_t height;
    int32_t components;
    int32_t colour;
    int32_t arithmetic;
    /* Whether all coefficients are held before the first row is decoded. */
    int32_t several_scans;
};

struct turret_jpeg {
    struct jpeg_decompress_struct library;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    int max_scans;
    jmp_buf failed;
    struct turret_jpeg_failure *failure;
};

static void fail(j_common_ptr library, int kind, int detail)
{
    struct turret_jpeg *jpeg = library->client_data;
    jpeg->failure->kind = kind;
    jpeg->failure->detail = detail;
    jpeg->errors.format_message(library, jpeg->failure->message);
    longjmp(jpeg->failed, 1);
}

static void on_error(j_common_ptr library)
{
    int detail = library->err->msg_parm.i[0];
    switch (library->err->msg_code) {
    case JERR_UNKNOWN_MARKER:
    case JERR_SOF_UNSUPPORTED: fail(library, KIND_PROCESS, detail); break;
    case JERR_ARITH_NOTIMPL: fail(library, KIND_PROCESS, 0xC9); break;
    case JERR_BAD_PRECISION: fail(library, KIND_PRECISION, detail); break;
    case JERR_FRACT_SAMPLE_NOTIMPL:
    case JERR_CCIR601_NOTIMPL: fail(library, KIND_SAMPLING, 0); break;
    case JERR_EMPTY_IMAGE: fail(library, KIND_HEIGHT, 0); break;
    case JERR_INPUT_EMPTY:
    case JERR_INPUT_EOF: fail(library, KIND_TRUNCATED, 0); break;
    case JERR_OUT_OF_MEMORY:
    case JERR_NO_BACKING_STORE: fail(library, KIND_MEMORY, 0); break;
    default: fail(library, KIND_DAMAGED, 0);
    }
}

/* Passes the warnings that leave the pixels right, and fails on the others. */
static void on_message(j_common_ptr library, int level)
{
    if (level >= 0)
        return; /* a trace message */
    switch (library->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA: /* stray bytes before a marker */
    case JWRN_NOT_SEQUENTIAL:  /* scan parameters that sequential decoding ignores */
    case JWRN_JFIF_MAJOR:
    case JWRN_ADOBE_XFORM: /* an unknown transform, read as YCbCr */
        return;
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER: fail(library, KIND_TRUNCATED, 0); break;
    default: fail(library, KIND_DAMAGED, 0);
    }
}

static void print_nothing(j_common_ptr library)
{
    (void)library;
}

static void on_progress(j_common_ptr library)
{
    struct turret_jpeg *jpeg = library->client_data;
    if (jpeg->library.input_scan_number > jpeg->max_scans)
        fail(library, KIND_SCANS, jpeg->max_scans);
}

void turret_jpeg_close(struct turret_jpeg *jpeg)
{
    jpeg_destroy_decompress(&jpeg->library);
    free(jpeg);
}

static int colour_of(J_COLOR_SPACE space)
{
    switch (space) {
    case JCS_GRAYSCALE: return COLOUR_GREY;
    case JCS_RGB:
    case JCS_YCbCr: return COLOUR_RGB;
    case JCS_CMYK:
    case JCS_YCCK: return COLOUR_CMYK;
    default: return COLOUR_OTHER;
    }
}

/* Returns 0, or -1 after a failure. */
static int read_header(struct turret_jpeg *jpeg, const uint8_t *file, size_t length,
                       struct turret_jpeg_header *header)
{
    struct jpeg_decompress_struct *library = &jpeg->library;
    if (setjmp(jpeg->failed))
        return -1;
    jpeg_create_decompress(library);
    library->progress = &jpeg->progress;
    jpeg_mem_src(library, file, length);
    jpeg_read_header(library, TRUE);
    header->width = library->image_width;
    header->height = library->image_height;
    header->components = library->num_components;
    header->colour = colour_of(library->jpeg_color_space);
    header->arithmetic = library->arith_code;
    header->several_scans = jpeg_has_multiple_scans(library);
    return 0;
}

/* Reads the header. Returns NULL after a failure; else the caller closes what is returned. */
struct turret_jpeg *turret_jpeg_open(const uint8_t *file, size_t length, int32_t max_scans,
                                     struct turret_jpeg_header *header,
                                     struct turret_jpeg_failure *failure)
{
    struct turret_jpeg *jpeg = calloc(1, sizeof *jpeg);
    if (jpeg == NULL) {
        failure->kind = KIND_MEMORY;
        return NULL;
    }
    jpeg->library.err = jpeg_std_error(&jpeg->errors);
    jpeg->errors.error_exit = on_error;
    jpeg->errors.emit_message = on_message;
    jpeg->errors.output_message = print_nothing;
    jpeg->progress.progress_monitor = on_progress;
    jpeg->max_scans = max_scans;
    jpeg->failure = failure;
    jpeg->library.client_data = jpeg;
    if (read_header(jpeg, file, length, header) == 0)
        return jpeg;
    turret_jpeg_close(jpeg);
    return NULL;
}

/* Fails if a scan is missing: libjpeg fills what no scan brought with grey, and tells nobody. */
static void check_all_scans_came(struct turret_jpeg *jpeg)
{
    struct jpeg_decompress_struct *library = &jpeg->library;
    for (int component = 0; component < library->num_components; component++) {
        /* Set by the first scan of a component. */
        if (library->comp_info[component].quant_table == NULL)
            fail((j_common_ptr)library, KIND_TRUNCATED, 0);
        if (library->coef_bits == NULL)
            continue;
        /* Bits of precision that a progressive file still owes; -1: never begun. */
        const int *owed = library->coef_bits[component];
        if (owed[0] != 0)
            fail((j_common_ptr)library, KIND_TRUNCATED, 0);
        for (int coefficient = 1; coefficient < DCTSIZE2; coefficient++)
            if (owed[coefficient] > 0)
                fail((j_common_ptr)library, KIND_TRUNCATED, 0);
    }
}

/* Decodes to RGB8: `length` is width * height * 3. Returns 0, or -1 after a failure. */
int32_t turret_jpeg_read(struct turret_jpeg *jpeg, uint8_t *pixels, size_t length,
                         struct turret_jpeg_failure *failure)
{
    enum { ROWS = 8 };
    struct jpeg_decompress_struct *library = &jpeg->library;
    jpeg->failure = failure;
    if (setjmp(jpeg->failed))
        return -1;
    library->out_color_space = JCS_RGB;
    jpeg_start_decompress(library);
    if (jpeg_has_multiple_scans(library))
        check_all_scans_came(jpeg);
    size_t stride = (size_t)library->output_width * 3;
    if (library->output_components != 3 || length != stride * library->output_height)
        ERREXIT(library, JERR_BUFFER_SIZE);
    while (library->output_scanline < library->output_height) {
        JSAMPROW rows[ROWS];
        JDIMENSION count = library->output_height - library->output_scanline;
        if (count > ROWS)
            count = ROWS;
        for (JDIMENSION row = 0; row < count; row++)
            rows[row] = pixels + stride * (library->output_scanline + row);
        jpeg_read_scanlines(library, rows, count);
    }
    /* Reads on to the end-of-image marker. */
    jpeg_finish_decompress(library);
    return 0;
}
