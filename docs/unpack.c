/* Unpacks the weights of a .resfit file: one file of C99 that needs nothing but a C library.

     cc -O2 -o unpack unpack.c
     unpack FILE.resfit WEIGHTS.bin [DESCRIPTION.json]

   WEIGHTS.bin receives all tensors one after the other, as a machine has them that keeps the least byte first;
   standard output has a line for each of them: name, type, shape, offset and bytes. Types are float32
   (every tensor with an encoding), int64, or the file's own.
   The format is that of docs/container.md and docs/coding.md, with DEFLATE (RFC 1951) and Zstandard (RFC 8878).
   No part of a file is trusted; whatever is wrong with one ends with a sentence and exit code 1.

   Licence: MIT, as resfit. */

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 1
#define SECTIONS 5
#define CHECKSUM_BYTES 4
#define DIRECTORY_LIMIT (1u << 24)
#define FREE_SYMBOLS 65536
#define SYMBOLS_A_BYTE 4096
#define FREE_IN_ALL ((uint64_t)1 << 27) /* of the three streams together */
#define IN_ALL_A_BYTE 32
#define MAX_DIMENSIONS 4
#define MAX_NAME 255
#define MAX_SHIFT 23
#define MAX_CENTERS 65536
#define NO_AXIS 255
#define MOST_ELEMENTS ((uint64_t)1 << 40)

enum { RAW, HUFFMAN, LZW, ZSTD, RANGE };
enum { DIRECTORY, KERNELS, VECTORS, SCALES, FLOATS };
enum { FLOAT, INT64, GRID, CODEBOOK, FP16, BF16 };

static const char *const FLOAT_TYPES[] = {"float32", "float64", "float16", "bfloat16"};
static const unsigned FLOAT_BYTES[] = {4, 8, 2, 2};

/* -- Errors and memory: a failure ends the program, and all memory is given back ------------------------------ */

typedef struct Block {
    struct Block *next;
} Block;

static Block *blocks;

static void release(void) {
    while (blocks) {
        Block *next = blocks->next;
        free(blocks);
        blocks = next;
    }
}

static void fail(const char *message) {
    fprintf(stderr, "unpack: %s\n", message);
    exit(1);
}

static void *allocate(uint64_t count, size_t size) {
    Block *block;
    if (count > (SIZE_MAX - sizeof(Block)) / size) fail("the file needs more memory than there is");
    block = calloc(1, sizeof(Block) + (size_t)count * size);
    if (!block) fail("the file needs more memory than there is");
    block->next = blocks;
    blocks = block;
    return block + 1;
}

/* -- Bytes, numbers and bits from the front ------------------------------------------------------------------- */

typedef struct {
    const uint8_t *data;
    size_t size, at;
    unsigned bits_left; /* of the byte before `at` */
} Stream;

static Stream stream_of(const uint8_t *data, size_t size) {
    Stream stream = {data, size, 0, 0};
    return stream;
}

static const uint8_t *take(Stream *stream, uint64_t count) {
    if (count > stream->size - stream->at) fail("the file ends before what it announces");
    stream->at += (size_t)count;
    return stream->data + stream->at - (size_t)count;
}

static unsigned take_byte(Stream *stream) {
    return *take(stream, 1);
}

/* LEB128 of at most `longest` bytes, in its shortest form. */
static uint64_t take_varint(Stream *stream, unsigned longest) {
    uint64_t value = 0;
    unsigned index;
    for (index = 0; index < longest; index++) {
        unsigned byte = take_byte(stream);
        value |= (uint64_t)(byte & 0x7F) << (7 * index);
        if (byte < 0x80) {
            if (index && !byte) break;
            return value;
        }
    }
    fail("a number is not in its shortest form");
    return 0;
}

/* 0, 1, 2, 3, .. stand for 0, -1, 1, -2, .. */
static int64_t take_signed(Stream *stream) {
    uint64_t number = take_varint(stream, 5);
    if (number >> 33) fail("a number is beyond 32 bits");
    return number & 1 ? -(int64_t)((number + 1) / 2) : (int64_t)(number / 2);
}

/* The next bits, the highest of a byte first. */
static uint64_t take_bits(Stream *stream, unsigned count) {
    uint64_t value = 0;
    while (count--) {
        if (!stream->bits_left) {
            take_byte(stream);
            stream->bits_left = 8;
        }
        stream->bits_left--;
        value = value << 1 | (stream->data[stream->at - 1] >> stream->bits_left & 1);
    }
    return value;
}

/* Pass over the rest of a byte, which must be zero. */
static void align(Stream *stream) {
    if (take_bits(stream, stream->bits_left)) fail("bits follow the last one that means something");
}

static void finish(const Stream *stream) {
    if (stream->at != stream->size) fail("bytes follow the end of a part of the file");
}

static int32_t as_symbol(int64_t number) {
    if (number < INT32_MIN || number > INT32_MAX) fail("a symbol is beyond 32 bits");
    return (int32_t)number;
}

/* -- CRC-32, and DEFLATE (RFC 1951) with a preset dictionary --------------------------------------------------- */

static uint32_t crc32_of(const uint8_t *data, size_t size) {
    uint32_t crc = 0xFFFFFFFFu;
    size_t index;
    int bit;
    for (index = 0; index < size; index++) {
        crc ^= data[index];
        for (bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

typedef struct {
    const uint8_t *data;
    size_t size, at;
    unsigned held, held_bits;
    uint8_t *out; /* begins with the dictionary */
    size_t out_size, out_at;
} Inflater;

typedef struct {
    uint16_t count[16], symbol[288]; /* how many codes have each length; symbols by length, then value */
} Codes;

static unsigned low_bits(Inflater *state, unsigned count) {
    unsigned value;
    while (state->held_bits < count) {
        if (state->at == state->size) fail("the directory ends too early");
        state->held |= (unsigned)state->data[state->at++] << state->held_bits;
        state->held_bits += 8;
    }
    value = state->held & ((1u << count) - 1);
    state->held >>= count;
    state->held_bits -= count;
    return value;
}

static void set_codes(Codes *codes, const uint8_t *lengths, unsigned size) {
    uint16_t first[16];
    unsigned index, length, room = 1;
    memset(codes, 0, sizeof *codes);
    for (index = 0; index < size; index++) codes->count[lengths[index]]++;
    codes->count[0] = 0;
    first[1] = 0;
    for (length = 1; length < 15; length++) first[length + 1] = (uint16_t)(first[length] + codes->count[length]);
    for (length = 1; length < 16; length++) {
        room <<= 1;
        if (codes->count[length] > room) fail("the directory has a code that cannot be");
        room -= codes->count[length];
    }
    for (index = 0; index < size; index++)
        if (lengths[index]) codes->symbol[first[lengths[index]]++] = (uint16_t)index;
}

static unsigned take_code(Inflater *state, const Codes *codes) {
    unsigned code = 0, first = 0, index = 0, length;
    for (length = 1; length < 16; length++) {
        unsigned count = codes->count[length];
        code |= low_bits(state, 1);
        if (code < first + count) return codes->symbol[index + (code - first)];
        index += count;
        first = (first + count) << 1;
        code <<= 1;
    }
    fail("the directory has a code that was not announced");
    return 0;
}

static void put(Inflater *state, uint8_t byte) {
    if (state->out_at == state->out_size) fail("the directory unpacks to more than its header says");
    state->out[state->out_at++] = byte;
}

static void inflate_codes(Inflater *state, const Codes *literals, const Codes *distances) {
    static const uint16_t LENGTH[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                      31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t LENGTH_BITS[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const uint16_t DISTANCE[] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
                                        193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    for (;;) {
        unsigned symbol = take_code(state, literals), distance_symbol;
        size_t length, distance;
        if (symbol == 256) return;
        if (symbol < 256) {
            put(state, (uint8_t)symbol);
            continue;
        }
        if (symbol > 285) fail("the directory has a length that cannot be");
        length = LENGTH[symbol - 257] + low_bits(state, LENGTH_BITS[symbol - 257]);
        distance_symbol = take_code(state, distances);
        if (distance_symbol > 29) fail("the directory has a distance that cannot be");
        distance = DISTANCE[distance_symbol] + low_bits(state, distance_symbol < 4 ? 0 : distance_symbol / 2 - 1);
        if (distance > state->out_at) fail("the directory refers to what precedes it");
        while (length--) put(state, state->out[state->out_at - distance]);
    }
}

static void inflate_stored(Inflater *state) {
    size_t length, complement;
    state->held = state->held_bits = 0;
    if (state->size - state->at < 4) fail("the directory ends too early");
    length = state->data[state->at] | (size_t)state->data[state->at + 1] << 8;
    complement = state->data[state->at + 2] | (size_t)state->data[state->at + 3] << 8;
    state->at += 4;
    if (length != (complement ^ 0xFFFF) || length > state->size - state->at) fail("the directory has a block that cannot be");
    while (length--) put(state, state->data[state->at++]);
}

static void inflate_dynamic(Inflater *state) {
    static const uint8_t ORDER[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[320] = {0};
    Codes codes, distances;
    unsigned literal_count = low_bits(state, 5) + 257, distance_count = low_bits(state, 5) + 1;
    unsigned code_count = low_bits(state, 4) + 4, index;
    for (index = 0; index < code_count; index++) lengths[ORDER[index]] = (uint8_t)low_bits(state, 3);
    if (literal_count > 286) fail("the directory has more codes than there are");
    set_codes(&codes, lengths, 19);
    memset(lengths, 0, sizeof lengths);
    for (index = 0; index < literal_count + distance_count;) {
        unsigned symbol = take_code(state, &codes), repeats = 1;
        uint8_t value = (uint8_t)symbol;
        if (symbol == 16) {
            if (!index) fail("the directory repeats a length before the first");
            value = lengths[index - 1];
            repeats = 3 + low_bits(state, 2);
        } else if (symbol > 16) {
            value = 0;
            repeats = symbol == 17 ? 3 + low_bits(state, 3) : 11 + low_bits(state, 7);
        }
        if (repeats > literal_count + distance_count - index) fail("the directory has more lengths than codes");
        while (repeats--) lengths[index++] = value;
    }
    set_codes(&codes, lengths, literal_count);
    set_codes(&distances, lengths + literal_count, distance_count);
    inflate_codes(state, &codes, &distances);
}

static void inflate_fixed(Inflater *state) {
    uint8_t lengths[288];
    Codes literals, distances;
    unsigned index;
    for (index = 0; index < 288; index++) lengths[index] = index < 144 ? 8 : index < 256 ? 9 : index < 280 ? 7 : 8;
    set_codes(&literals, lengths, 288);
    memset(lengths, 5, 30);
    set_codes(&distances, lengths, 30);
    inflate_codes(state, &literals, &distances);
}

static const char TYPICAL[] =
    "{\"activation_ranges\":{\"input\":[-2.1,2.6],\"layer1.0\":[0.0,\"labels\":[\"airplane\",\"automobile\",\"bird\",\"cat\","
    "\"deer\",\"dog\",\"frog\",\"horse\",\"ship\",\"truck\"],\"preprocessing\":{\"channels\":3,\"fit\":\"crop\",\"height\":224,"
    "\"mean\":[0.485,0.456,0.406],\"std\":[0.229,0.224,0.225],\"width\":224},\"provenance\":{\"created\":"
    "\"2026-01-01T00:00:00+00:00\",\"data\":{},\"notes\":[],\"recipe\":{},\"resfit_version\":\"0.1.0\",\"source\":"
    "\"resfit compress\",\"trained\":true},\"spec\":{\"activation\":\"relu\",\"bias\":true,\"block\":\"bottleneck\","
    "\"depths\":[3,4,6,3],\"norm\":\"none\",\"num_classes\":10,\"order\":\"pre\",\"shortcut\":\"zero_pad\",\"stem\":\"cifar\","
    "\"stem_width\":16,\"strides\":[1,2,2],\"widths\":[16,32,64]}}";

#define DICTIONARY_BYTES 3874
#define DICTIONARY_CRC 0x60AAE704u

static void set_dictionary(uint8_t *out) {
    static const char *const PARTS[] = {"conv1.weight", "conv1.bias",          "conv2.weight",
                                        "conv2.bias",   "downsample.0.weight", "downsample.0.bias"};
    char text[DICTIONARY_BYTES + 64];
    size_t at = 0;
    int stage, block, part;
    for (stage = 4; stage > 0; stage--)
        for (block = 0; block < 9; block++)
            for (part = 0; part < (block == 0 && stage > 1 ? 6 : 4); part++)
                at += (size_t)snprintf(text + at, sizeof text - at, "layer%d.%d.%s\n", stage, block, PARTS[part]);
    at += (size_t)snprintf(text + at, sizeof text - at, "fc.weight\nfc.bias\nconv1.weight\nconv1.bias\n%s", TYPICAL);
    if (at != DICTIONARY_BYTES || crc32_of((const uint8_t *)text, at) != DICTIONARY_CRC) fail("this program was changed");
    memcpy(out, text, at);
}

/* The directory of `size` bytes. */
static const uint8_t *inflate(const uint8_t *packed, size_t packed_size, size_t size) {
    Inflater state = {0};
    int last;
    state.data = packed;
    state.size = packed_size;
    state.out_size = DICTIONARY_BYTES + size;
    state.out = allocate(state.out_size, 1);
    state.out_at = DICTIONARY_BYTES;
    set_dictionary(state.out);
    do {
        unsigned kind;
        last = (int)low_bits(&state, 1);
        kind = low_bits(&state, 2);
        if (kind == 0) inflate_stored(&state);
        else if (kind == 1) inflate_fixed(&state);
        else if (kind == 2) inflate_dynamic(&state);
        else fail("the directory has a block of an unknown kind");
    } while (!last);
    if (state.at != packed_size || state.out_at != state.out_size) fail("the directory has another size than its header says");
    return state.out + DICTIONARY_BYTES;
}

/* -- The directory ---------------------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    unsigned name_bytes, dimensions, kind, bits, axis, shift;
    uint64_t shape[MAX_DIMENSIONS], elements, sides; /* sides: scales or centers */
    const int32_t *numbers, *side_numbers;
} Entry;

typedef struct {
    Entry *entries;
    uint64_t count;
    unsigned float_type, exponent;
    const uint8_t *description;
    size_t description_bytes;
} Directory;

static void read_name(Stream *plain, Entry *entry) {
    size_t start = plain->at;
    while (take_byte(plain) != '\n') continue;
    entry->name = (const char *)plain->data + start;
    entry->name_bytes = (unsigned)(plain->at - start - 1);
    if (entry->name_bytes < 1 || entry->name_bytes > MAX_NAME) fail("a tensor has a name that no tensor has");
    for (; start + 1 < plain->at; start++)
        if (plain->data[start] < 0x21 || plain->data[start] > 0x7E) fail("a tensor has a name that no tensor has");
}

static void read_shape(Stream *plain, Entry *entry) {
    unsigned index;
    entry->dimensions = take_byte(plain);
    if (entry->dimensions > MAX_DIMENSIONS) fail("a tensor has too many dimensions");
    entry->elements = 1;
    for (index = 0; index < entry->dimensions; index++) {
        uint64_t size = take_varint(plain, 9);
        if (size > MOST_ELEMENTS || (size && entry->elements > MOST_ELEMENTS / size)) fail("a tensor is too large");
        entry->shape[index] = size;
        entry->elements *= size;
    }
}

static void read_encoding(Stream *plain, Entry *entry) {
    entry->bits = take_byte(plain);
    entry->axis = take_byte(plain);
    if (entry->bits < 2 || entry->bits > 16) fail("a grid has bits that no grid has");
    if (entry->axis != NO_AXIS && entry->axis >= entry->dimensions) fail("a grid has an axis that its tensor has not");
    entry->sides = entry->axis == NO_AXIS ? 1 : entry->shape[entry->axis];
}

static Directory read_directory(Stream *plain) {
    Directory directory = {0};
    Entry *entry, *end;
    int grids = 0;
    directory.float_type = take_byte(plain);
    directory.count = take_varint(plain, 9);
    if (directory.float_type > 3 || directory.count > plain->size) fail("the directory is not one");
    directory.entries = allocate(directory.count, sizeof(Entry));
    end = directory.entries + directory.count;
    for (entry = directory.entries; entry < end; entry++) read_name(plain, entry);
    for (entry = directory.entries; entry < end; entry++) read_shape(plain, entry);
    for (entry = directory.entries; entry < end; entry++)
        if ((entry->kind = take_byte(plain)) > BF16) fail("a tensor is of an unknown kind");
    for (entry = directory.entries; entry < end; entry++)
        if (entry->kind == GRID) {
            read_encoding(plain, entry);
            grids = 1;
        }
    for (entry = directory.entries; entry < end; entry++)
        if (entry->kind == CODEBOOK) {
            entry->sides = take_varint(plain, 9);
            if (entry->sides < 1 || entry->sides > MAX_CENTERS) fail("a codebook has centers that no codebook has");
        }
    for (entry = directory.entries; entry < end; entry++)
        if (entry->sides && (entry->shift = take_byte(plain)) > MAX_SHIFT) fail("floats are shifted too far");
    if (grids) directory.exponent = take_byte(plain);
    directory.description = plain->data + plain->at;
    directory.description_bytes = plain->size - plain->at;
    return directory;
}

/* -- The codecs: `count` arrays, each with its numbers' place, from one stream ------------------------------------ */

typedef struct {
    uint64_t size;
    unsigned dimensions;
    const uint64_t *shape;
    int32_t *numbers;
} Array;

static void decode_raw(Stream *stream, Array *arrays, uint64_t count) {
    uint64_t place, index;
    for (place = 0; place < count; place++) {
        int64_t least;
        unsigned width;
        if (!arrays[place].size) continue;
        least = take_signed(stream);
        width = take_byte(stream);
        if (width > 32) fail("fields have more than 32 bits");
        for (index = 0; index < arrays[place].size; index++)
            arrays[place].numbers[index] = as_symbol(least + (int64_t)take_bits(stream, width));
        align(stream);
    }
}

/* The distinct symbols of a stream after their number was read. */
static int32_t *take_alphabet(Stream *stream, uint64_t size) {
    int32_t *alphabet;
    uint64_t index;
    if (size < 1 || size > 65536) fail("an alphabet has a size that none has");
    alphabet = allocate(size, sizeof *alphabet);
    alphabet[0] = as_symbol(take_signed(stream));
    for (index = 1; index < size; index++) {
        uint64_t step = take_varint(stream, 5);
        alphabet[index] = as_symbol((int64_t)alphabet[index - 1] + 1 + (int64_t)step);
    }
    return alphabet;
}

#define LONGEST_CODE 20

typedef struct {
    uint32_t count[LONGEST_CODE + 1];
    int32_t *symbols; /* by length of their code, then value */
    int lone;
} Table;

static Table take_table(Stream *stream, uint64_t size) {
    Table table = {{0}, NULL, 0};
    const int32_t *alphabet = take_alphabet(stream, size);
    const uint8_t *lengths = take(stream, size);
    uint64_t index, at = 0, room = 0;
    unsigned length;
    table.symbols = allocate(size, sizeof *table.symbols);
    if (size == 1 && lengths[0] == 0) {
        table.symbols[0] = alphabet[0];
        table.lone = 1;
        return table;
    }
    for (index = 0; index < size; index++) {
        if (lengths[index] < 1 || lengths[index] > LONGEST_CODE) fail("a code has a length that none has");
        table.count[lengths[index]]++;
        room += (uint64_t)1 << (LONGEST_CODE - lengths[index]);
    }
    if (room != (uint64_t)1 << LONGEST_CODE) fail("the lengths of a code do not fit together");
    for (length = 1; length <= LONGEST_CODE; length++)
        for (index = 0; table.count[length] && index < size; index++)
            if (lengths[index] == length) table.symbols[at++] = alphabet[index];
    return table;
}

static int32_t take_symbol(Stream *stream, const Table *table) {
    uint32_t code = 0, first = 0, index = 0;
    unsigned length;
    if (table->lone) return table->symbols[0];
    for (length = 1; length <= LONGEST_CODE; length++) {
        code |= (uint32_t)take_bits(stream, 1);
        if (code < first + table->count[length]) return table->symbols[index + (code - first)];
        index += table->count[length];
        first = (first + table->count[length]) << 1;
        code <<= 1;
    }
    fail("a code was not announced");
    return 0;
}

static void decode_huffman(Stream *stream, Array *arrays, uint64_t count) {
    Table table = {{0}, NULL, 0};
    uint64_t place, index, size;
    for (place = 0; place < count; place++) {
        if (!arrays[place].size) continue;
        size = take_varint(stream, 5);
        if (size) table = take_table(stream, size);
        if (!table.symbols) fail("a table is referred to before the first one");
        for (index = 0; index < arrays[place].size; index++) arrays[place].numbers[index] = take_symbol(stream, &table);
        align(stream);
    }
}

#define MOST_PHRASES (1u << 18)

/* The arrays' numbers follow each other in memory, so phrases run from one into the next. */
static void decode_lzw(Stream *stream, Array *arrays, uint64_t count) {
    uint64_t total = 0, place, done = 0, codes = 0, *starts, *lengths, alphabet_size, index;
    const int32_t *alphabet;
    int32_t *out;
    for (place = 0; place < count; place++) total += arrays[place].size;
    if (!total) return;
    out = arrays[0].numbers;
    alphabet_size = take_varint(stream, 5);
    alphabet = take_alphabet(stream, alphabet_size);
    starts = allocate(total < MOST_PHRASES ? total : MOST_PHRASES, sizeof *starts);
    lengths = allocate(total < MOST_PHRASES ? total : MOST_PHRASES, sizeof *lengths);
    while (done < total) {
        uint64_t known = codes < MOST_PHRASES ? codes : MOST_PHRASES, greatest = alphabet_size - 1 + known, code, length = 1;
        unsigned width = 0;
        while (greatest >> width) width++;
        code = take_bits(stream, width);
        if (code >= alphabet_size + known) fail("a phrase is not known yet");
        if (code >= alphabet_size) length = lengths[code - alphabet_size];
        if (length > total - done) fail("there are more symbols than the shapes have");
        if (known == codes && codes < MOST_PHRASES) {
            starts[codes] = done;
            lengths[codes] = length + 1;
        }
        if (code < alphabet_size) out[done] = alphabet[code];
        else
            for (index = 0; index < length; index++) out[done + index] = out[starts[code - alphabet_size] + index];
        done += length;
        codes++;
    }
    align(stream);
}

/* -- The range codec: an adaptive model around a binary range coder ------------------------------------------------ */

#define INPUTS 6 /* contexts of a bit */
#define WEIGHTS (INPUTS + 1)
#define SPAN 2815
#define NODES 32
#define LENGTHS 12
#define SHORT_DIGITS 12
#define LONG_DIGITS 24
#define CONTEXTS 1024
#define SIGNS (INPUTS * CONTEXTS * NODES)
#define CENTERS (SIGNS + INPUTS * CONTEXTS)
#define CENTER_DIGITS 40
#define CHANCES (CENTERS + 2 * CENTER_DIGITS + 1)
#define BY_LEVEL 16
#define BY_PLACE 16
#define SIGN_MIXERS ((BY_LEVEL + BY_PLACE) * NODES)
#define MIXERS (SIGN_MIXERS + 1 + BY_PLACE)
#define MOST_DIGITS 33
#define MOST_COUNTS 1023
#define NEAR 8 /* symbols of the same kernel that are seen */
#define FEATURES (NEAR + 5)
#define PLACES 64
#define LARGEST 4095
#define UNIT 4096
#define SHARES 2048

typedef struct {
    Stream *stream;
    uint32_t low, high, code, chances[CHANCES];
    uint64_t position;
    int64_t weights[MIXERS * WEIGHTS], inputs[WEIGHTS];
    int32_t stretch[4096], squash[2 * SPAN + 1];
    uint32_t slots[INPUTS];
    int64_t magnitude_weights[FEATURES], value_weights[PLACES * NEAR], magnitudes[FEATURES], values[NEAR];
    int64_t expected, expected_value, output, whole, wholes[2];
    unsigned flat; /* whether the tensor has fewer than two dimensions */
} Model;

/* Division by 2^bits, and by a number above 0, to the whole number below. */
static int64_t shifted(int64_t number, unsigned bits) {
    return number < 0 ? -1 - ((-1 - number) >> bits) : number >> bits;
}

static int64_t divided(int64_t number, int64_t divisor) {
    return number < 0 ? -1 - (-1 - number) / divisor : number / divisor;
}

static int64_t limited(int64_t number, int64_t least, int64_t greatest) {
    return number < least ? least : number > greatest ? greatest : number;
}

static int64_t absolute(int64_t number) {
    return number < 0 ? -number : number;
}

static Model *new_model(Stream *stream) {
    Model *model = allocate(1, sizeof *model);
    uint64_t odds = 1u << 30;
    unsigned index;
    int logarithm = -SPAN;
    model->stream = stream;
    model->high = 0xFFFFFFFFu;
    for (index = 0; index < 4; index++)
        model->code = model->code << 8 | (index < stream->size ? stream->data[index] : 0xFF);
    for (index = 0; index <= SPAN; index++) {
        int32_t least = (int32_t)(65536 * odds / ((1u << 30) + odds));
        if (least < 1) least = 1;
        model->squash[SPAN - index] = least;
        model->squash[SPAN + index] = 65536 - least;
        odds = odds * 1069555637u >> 30;
    }
    for (index = 0; index < 4096; index++) {
        while (logarithm < SPAN && model->squash[logarithm + SPAN] < (int32_t)(16 * index + 8)) logarithm++;
        model->stretch[index] = logarithm;
    }
    for (index = 0; index < CHANCES; index++) model->chances[index] = 1u << 31;
    for (index = 0; index < MIXERS * WEIGHTS; index++) model->weights[index] = 12000;
    for (index = 0; index < FEATURES; index++) model->magnitude_weights[index] = 65536 / FEATURES;
    model->wholes[0] = model->wholes[1] = UNIT;
    return model;
}

/* The next bit, which is one with `probability` in 65,536. */
static unsigned range_bit(Model *model, uint32_t probability) {
    uint32_t middle = model->low + (uint32_t)((uint64_t)(model->high - model->low) * probability >> 16);
    unsigned bit = model->code <= middle;
    if (bit) model->high = middle;
    else model->low = middle + 1;
    while ((model->low ^ model->high) >> 24 == 0) {
        uint64_t ahead = model->position + 4;
        model->code = model->code << 8 | (ahead < model->stream->size ? model->stream->data[ahead] : 0xFF);
        model->low <<= 8;
        model->high = model->high << 8 | 0xFF;
        model->position++;
    }
    return bit;
}

static void correct_chance(uint32_t *chance, unsigned bit) {
    uint32_t count = *chance & MOST_COUNTS;
    int64_t probability = *chance >> 10;
    probability += shifted((((int64_t)bit << 22) - probability) * (655360 / (10 * (int64_t)count + 18)), 16);
    *chance = (uint32_t)probability << 10 | (count < MOST_COUNTS ? count + 1 : MOST_COUNTS);
}

static void correct_mixer(const Model *model, int64_t *weights, int64_t error) {
    unsigned place;
    for (place = 0; place < WEIGHTS; place++) {
        int64_t change = shifted(model->inputs[place] * error * 10 + 131072, 18);
        weights[place] = limited(weights[place] + change, -(1 << 20), 1 << 20);
    }
}

static unsigned mixed_bit(Model *model, unsigned node, unsigned one, unsigned other, int64_t extra) {
    int64_t *first = model->weights + one * WEIGHTS, *second = model->weights + other * WEIGHTS;
    int64_t first_mean = extra * first[INPUTS], second_mean = extra * second[INPUTS];
    unsigned place, bit;
    for (place = 0; place < INPUTS; place++) {
        int64_t value = model->stretch[model->chances[model->slots[place] + node] >> 20];
        model->inputs[place] = value;
        first_mean += value * first[place];
        second_mean += value * second[place];
    }
    model->inputs[INPUTS] = extra;
    first_mean = limited(shifted(first_mean, 16), -SPAN, SPAN);
    second_mean = limited(shifted(second_mean, 16), -SPAN, SPAN);
    bit = range_bit(model, (uint32_t)model->squash[shifted(first_mean + second_mean, 1) + SPAN]);
    correct_mixer(model, first, ((int64_t)bit << 16) - model->squash[first_mean + SPAN]);
    correct_mixer(model, second, ((int64_t)bit << 16) - model->squash[second_mean + SPAN]);
    for (place = 0; place < INPUTS; place++) correct_chance(&model->chances[model->slots[place] + node], bit);
    return bit;
}

static unsigned lone_bit(Model *model, unsigned slot) {
    unsigned bit = range_bit(model, (uint32_t)model->squash[model->stretch[model->chances[slot] >> 20] + SPAN]);
    correct_chance(&model->chances[slot], bit);
    return bit;
}

/* The symbol that is taken as zero in a tensor. */
static int64_t take_center(Model *model) {
    unsigned digits = 0;
    int place;
    int64_t center = 1;
    while (digits < MOST_DIGITS && lone_bit(model, CENTERS + digits)) digits++;
    if (!digits) return 0;
    for (place = (int)digits - 2; place >= 0; place--)
        center = center << 1 | lone_bit(model, CENTERS + CENTER_DIGITS + (unsigned)place);
    return lone_bit(model, CENTERS + 2 * CENTER_DIGITS) ? -center : center;
}

/* Four steps a doubling: numbers below 8 are their own level. */
static uint32_t level_of(int64_t number) {
    unsigned shift = 0;
    while (number >> shift >= 8) shift++;
    return (uint32_t)limited(4 * (int64_t)shift + (number >> shift), 0, 63);
}

static int64_t product(const int64_t *weights, const int64_t *features, unsigned count) {
    int64_t total = 0;
    unsigned place;
    for (place = 0; place < count; place++) total += weights[place] * features[place];
    return shifted(total, 16);
}

static void correct_weights(int64_t *weights, const int64_t *features, unsigned count, int64_t error, int64_t power, unsigned bits) {
    int64_t gain;
    unsigned place;
    for (place = 0; place < count; place++) power += shifted(features[place], 6) * shifted(features[place], 6);
    gain = divided(error * 65536, power);
    for (place = 0; place < count; place++) {
        int64_t change = shifted(gain * shifted(features[place], 6), bits);
        weights[place] = limited(weights[place] + change, -(1 << 18), 1 << 18);
    }
}

/* A tensor as outputs x inputs x places of a kernel; `kept` are its symbols so far, `columns` the means of its inputs. */
typedef struct {
    uint64_t inputs, kernel, width;
    int64_t *kept, *columns;
} Tensor;

static int64_t *column_of(const Tensor *tensor, uint64_t index) {
    return &tensor->columns[index / tensor->kernel % tensor->inputs];
}

static void expect(Model *model, const Tensor *tensor, uint64_t index) {
    uint64_t place = index % tensor->kernel, output_size = tensor->kernel * tensor->inputs;
    const int64_t *kept = tensor->kept;
    int64_t *magnitudes = model->magnitudes, output;
    unsigned near;
    if (index % output_size == 0) model->output = model->whole;
    output = model->output;
    for (near = 0; near < NEAR; near++) {
        model->values[near] = near < place ? kept[index - 1 - near] * UNIT : 0;
        magnitudes[near] = near < place ? absolute(model->values[near]) : output;
    }
    magnitudes[NEAR] = output;
    magnitudes[NEAR + 1] = *column_of(tensor, index);
    magnitudes[NEAR + 2] = index / tensor->kernel % tensor->inputs ? absolute(kept[index - tensor->kernel]) * UNIT : output;
    magnitudes[NEAR + 3] = index >= output_size ? absolute(kept[index - output_size]) * UNIT : output;
    magnitudes[NEAR + 4] = model->whole;
    model->expected = limited(product(model->magnitude_weights, magnitudes, FEATURES), 16, 1 << 24);
    model->expected_value = product(
        model->value_weights + (place < PLACES ? place : PLACES - 1) * NEAR, model->values, place < NEAR ? (unsigned)place : NEAR);
    model->expected_value = limited(model->expected_value, -(1 << 24), 1 << 24);
}

static int64_t nearer(int64_t mean, int64_t value, uint64_t count, uint64_t most) {
    return mean + shifted((value - mean) * (65536 / (int64_t)((count < most ? count : most) + 2)), 16);
}

static void learn(Model *model, const Tensor *tensor, uint64_t index) {
    uint64_t place = index % tensor->kernel, output_size = tensor->kernel * tensor->inputs;
    int64_t value = tensor->kept[index] * UNIT, magnitude = absolute(value), *column = column_of(tensor, index);
    int64_t least = shifted(model->expected * model->expected, 14);
    correct_weights(model->magnitude_weights, model->magnitudes, FEATURES, magnitude - model->expected, 256, 12);
    correct_weights(
        model->value_weights + (place < PLACES ? place : PLACES - 1) * NEAR, model->values, place < NEAR ? (unsigned)place : NEAR,
        value - model->expected_value, least + 16, 11);
    model->output = nearer(model->output, magnitude, index % output_size, 255);
    model->whole = nearer(model->whole, magnitude, index, SHARES - 1);
    *column = nearer(*column, magnitude, index / output_size * tensor->kernel + place, 63);
}

/* Sets the slots of a magnitude's contexts; returns the coarse level of what is expected. */
static unsigned set_contexts(Model *model, const Tensor *tensor, uint64_t index) {
    const int64_t *seen = model->magnitudes, *kept = tensor->kept;
    uint64_t place = index % tensor->kernel;
    uint32_t expected = level_of(model->expected >> 5), output = level_of(model->output >> 6), contexts[INPUTS], around, input;
    uint32_t left = index > 0 ? (uint32_t)limited(absolute(kept[index - 1]), 0, 3) : 0;
    uint32_t before = index > 1 ? (uint32_t)limited(absolute(kept[index - 2]), 0, 3) : 0;
    uint32_t above = place >= tensor->width ? (uint32_t)limited(absolute(kept[index - tensor->width]), 0, 2) : 0;
    around = (uint32_t)(limited(seen[0] >> 12, 0, 2) * 3 + limited(seen[NEAR + 2] >> 12, 0, 2));
    around = (around * 3 + (uint32_t)limited(seen[NEAR + 3] >> 12, 0, 2)) * 3 + above;
    contexts[0] = level_of(absolute(model->expected_value) >> 7) / 2 * 32 + expected / 2;
    contexts[1] = (uint32_t)limited((int64_t)place, 0, 15) * 64 + expected;
    contexts[2] = output / 2 * 32 + level_of(seen[NEAR + 1] >> 6) / 2;
    contexts[3] = (left * 4 + before) * 16 + expected / 4;
    contexts[4] = level_of((seen[0] + seen[1] + seen[2] + seen[3]) >> 8) / 2 * 32 + output / 2;
    contexts[5] = around * 2 + model->flat;
    for (input = 0; input < INPUTS; input++) model->slots[input] = (input * CONTEXTS + contexts[input]) * NODES;
    return expected / 4;
}

static int64_t take_magnitude(Model *model, unsigned level, unsigned place) {
    unsigned one = level * NODES, other = (BY_LEVEL + place) * NODES, digits = 0, more = 1;
    int64_t magnitude;
    int digit;
    while (more && digits < MOST_DIGITS) {
        unsigned node = digits < LENGTHS ? digits : LENGTHS - 1;
        more = mixed_bit(model, node, one + node, other + node, 0);
        digits += more;
    }
    magnitude = digits > 0;
    for (digit = (int)digits - 2; digit >= 0; digit--) {
        unsigned node = LONG_DIGITS + (digit < NODES - LONG_DIGITS ? (unsigned)digit : NODES - LONG_DIGITS - 1);
        if (digits <= 4) node = SHORT_DIGITS + (unsigned)magnitude + (1u << (digits - 2)) - 2;
        magnitude = magnitude << 1 | mixed_bit(model, node, one + node, other + node, 0);
    }
    return magnitude;
}

static unsigned take_sign(Model *model, unsigned place, int64_t magnitude) {
    int64_t held = limited(magnitude, 0, LARGEST), logarithm;
    int64_t level = level_of(absolute(model->expected_value) >> 6);
    uint32_t contexts[INPUTS], input, signs = 0, near, value;
    value = (uint32_t)(limited(model->expected_value < 0 ? -level : level, -31, 31) + 32);
    logarithm = divided(model->expected_value * held * 64, model->expected + 2048);
    for (near = 0; near < 3; near++) signs = signs * 3 + (model->values[near] > 0 ? 2 : model->values[near] < 0 ? 1 : 0);
    contexts[0] = value;
    contexts[1] = value / 2 * 32 + level_of(model->expected >> 5) / 2;
    contexts[2] = place * 64 + value;
    contexts[3] = (uint32_t)(limited(shifted(logarithm, 4), -31, 31) + 32);
    contexts[4] = value * 8 + (uint32_t)limited(held, 0, 7);
    contexts[5] = place * 27 + signs;
    for (input = 0; input < INPUTS; input++) model->slots[input] = SIGNS + input * CONTEXTS + contexts[input];
    return mixed_bit(model, 0, SIGN_MIXERS, SIGN_MIXERS + 1 + place, limited(-logarithm, -2000, 2000));
}

static void take_tensor(Model *model, Array *array) {
    Tensor tensor = {array->size, 1, 1, NULL, NULL};
    uint64_t index;
    int64_t center;
    if (array->dimensions > 1) {
        tensor.inputs = array->shape[1];
        tensor.kernel = array->size / array->shape[0] / array->shape[1];
        if (array->dimensions > 2) tensor.width = array->shape[array->dimensions - 1];
    }
    model->flat = array->dimensions < 2;
    model->whole = model->wholes[model->flat];
    tensor.kept = allocate(array->size, sizeof *tensor.kept);
    tensor.columns = allocate(tensor.inputs, sizeof *tensor.columns);
    for (index = 0; index < tensor.inputs; index++) tensor.columns[index] = model->whole;
    center = take_center(model);
    for (index = 0; index < array->size; index++) {
        unsigned place = (unsigned)limited((int64_t)(index % tensor.kernel), 0, BY_PLACE - 1), level;
        int64_t value;
        expect(model, &tensor, index);
        level = set_contexts(model, &tensor, index);
        value = take_magnitude(model, level, place);
        if (value && take_sign(model, place, value)) value = -value;
        array->numbers[index] = as_symbol(value + center);
        tensor.kept[index] = limited(value, -LARGEST, LARGEST);
        learn(model, &tensor, index);
    }
    model->wholes[model->flat] = model->whole;
}

/* A stream ends with the first byte of the low end, if a bit was coded since the last byte, and without its last 0xff. */
static void end_range(const Model *model, Stream *stream) {
    int has_last = model->low != 0 || model->high != 0xFFFFFFFFu;
    uint64_t size = model->position + (has_last ? 1 : 0);
    for (; size; size--) {
        uint64_t at = size - 1;
        unsigned byte = has_last && at == model->position ? model->low >> 24 : at < stream->size ? stream->data[at] : 0xFF;
        if (byte != 0xFF) {
            if (at >= stream->size || stream->data[at] != byte) fail("a stream does not end where its numbers do");
            break;
        }
    }
    if (size != stream->size) fail("a stream does not end where its numbers do");
    stream->at = stream->size;
}

static void decode_range(Stream *stream, Array *arrays, uint64_t count) {
    Model *model = new_model(stream);
    uint64_t place;
    for (place = 0; place < count; place++)
        if (arrays[place].size) take_tensor(model, &arrays[place]);
    end_range(model, stream);
}

/* -- Zstandard (RFC 8878): one frame that states its size and needs no dictionary ---------------------------------- */

#define BLOCK_LIMIT (1u << 17)
#define LONGEST_LITERAL_CODE 11
#define MOST_WEIGHTS 255 /* that a tree states; one more follows from them */
#define WEIGHT_LOG 6
#define MOST_STATES 512
#define MOST_CODES 53
#define LONGEST_WINDOW 31 /* resfit's own reader stops there too */

enum { RAW_BLOCK, REPEATED_BYTE, COMPRESSED_BLOCK };
enum { RAW_LITERALS, REPEATED_LITERAL, HUFFMAN_LITERALS, TREELESS_LITERALS };
enum { PREDEFINED, ONE_CODE, DESCRIBED, AS_BEFORE };
enum { LITERAL_LENGTHS, OFFSETS, MATCH_LENGTHS, KINDS };

/* A state stands for a symbol; the next one is `start` and the value of the following bits. */
typedef struct {
    uint16_t start;
    uint8_t symbol, bits;
} State;

typedef struct {
    State states[MOST_STATES];
    unsigned log; /* of the number of states */
    int known;
} States;

typedef struct {
    uint8_t *out;
    uint64_t size, done, block_limit, block_end, recent[3];
    int has_checksum;
    States tables[KINDS];
    unsigned longest_code; /* 0 before the first tree */
    uint8_t code_symbols[1 << LONGEST_LITERAL_CODE], code_lengths[1 << LONGEST_LITERAL_CODE];
    uint8_t literals[BLOCK_LIMIT];
    uint64_t literals_left, literal_at;
} Frame;

static uint64_t little(const uint8_t *data, unsigned count) {
    uint64_t value = 0;
    while (count--) value = value << 8 | data[count];
    return value;
}

static uint64_t take_little(Stream *stream, unsigned count) {
    return little(take(stream, count), count);
}

/* At most 32 bits from bit `at` on, the lowest of a byte first; past the end they are zero. */
static uint32_t bits_at(const uint8_t *data, size_t size, uint64_t at, unsigned count) {
    uint64_t value = 0, place = at / 8;
    unsigned index;
    for (index = 0; index < 5 && place + index < size; index++) value |= (uint64_t)data[place + index] << (8 * index);
    return (uint32_t)(value >> (at % 8) & (((uint64_t)1 << count) - 1));
}

/* Bits that are read from the end; the highest one that is set only marks it. */
typedef struct {
    const uint8_t *data;
    size_t size;
    uint64_t left;
} Backwards;

static Backwards backwards(Stream *stream, uint64_t size) {
    Backwards bits = {take(stream, size), (size_t)size, 8 * size};
    if (!size || !bits.data[size - 1]) fail("a stream of bits has no mark at its end");
    while (!bits_at(bits.data, bits.size, --bits.left, 1)) continue;
    return bits;
}

static uint32_t take_back(Backwards *bits, unsigned count) {
    if (count > bits->left) fail("a stream of bits ends too early");
    bits->left -= count;
    return bits_at(bits->data, bits->size, bits->left, count);
}

/* `shares`: how many of the 2^log states a symbol has; -1 is one of the last, which are dealt out first. */
static void set_states(States *table, const int16_t *shares, unsigned symbols, unsigned log) {
    unsigned size = 1u << log, end = size, at = 0, symbol, next[MOST_CODES];
    int index;
    for (symbol = 0; symbol < symbols; symbol++) {
        next[symbol] = shares[symbol] < 0 ? 1 : (unsigned)shares[symbol];
        if (shares[symbol] < 0) table->states[--end].symbol = (uint8_t)symbol;
    }
    for (symbol = 0; symbol < symbols; symbol++)
        for (index = 0; index < shares[symbol]; index++) {
            table->states[at].symbol = (uint8_t)symbol;
            do at = (at + (size >> 1) + (size >> 3) + 3) & (size - 1);
            while (at >= end);
        }
    for (at = 0; at < size; at++) {
        State *state = &table->states[at];
        unsigned number = next[state->symbol]++, bits = log;
        while (number >> (log - bits) > 1) bits--;
        state->bits = (uint8_t)bits;
        state->start = (uint16_t)((number << bits) - size);
    }
    table->log = log;
    table->known = 1;
}

/* Shares are read until they add up; the less is left, the fewer bits a share has. */
static void take_states(Stream *stream, States *table, unsigned symbols, unsigned greatest_log) {
    int16_t shares[MOST_CODES] = {0};
    const uint8_t *data = stream->data + stream->at;
    size_t size = stream->size - stream->at;
    unsigned log = bits_at(data, size, 0, 4) + 5, symbol = 0, at = 4, width, value, low, shorter, zeros;
    int left = 1 << log;
    if (log > greatest_log) fail("a table has more states than any");
    while (left) {
        if (symbol >= symbols) fail("a table has more symbols than there are");
        for (width = 0; (left + 1) >> width;) width++;
        shorter = (1u << width) - (unsigned)left - 2; /* so many values have one bit less */
        value = bits_at(data, size, at, width);
        low = value & ((1u << (width - 1)) - 1);
        at += low < shorter ? width - 1 : width;
        if (low < shorter) value = low;
        else if (low != value) value -= shorter;
        shares[symbol++] = (int16_t)((int)value - 1);
        left -= value ? (int)value - 1 : 1;
        for (zeros = value == 1 ? 3 : 0; zeros == 3 && symbol < symbols; symbol += zeros, at += 2)
            zeros = bits_at(data, size, at, 2); /* a share of zero tells how many more follow */
    }
    take(stream, (at + 7) / 8);
    set_states(table, shares, symbols, log);
}

/* Two states take turns; where the bits do not suffice for one to go on, the other's symbol is the last. */
static unsigned take_coded_weights(Stream *stream, uint8_t *weights) {
    States table;
    unsigned states[2], count;
    Backwards bits;
    take_states(stream, &table, LONGEST_LITERAL_CODE + 1, WEIGHT_LOG);
    bits = backwards(stream, stream->size - stream->at);
    states[0] = take_back(&bits, table.log);
    states[1] = take_back(&bits, table.log);
    for (count = 0; count + 1 < MOST_WEIGHTS; count++) {
        const State *state = &table.states[states[count % 2]];
        weights[count] = state->symbol;
        if (state->bits > bits.left) {
            weights[count + 1] = table.states[states[(count + 1) % 2]].symbol;
            return count + 2;
        }
        states[count % 2] = state->start + take_back(&bits, state->bits);
    }
    fail("a tree has more weights than there are literals");
    return 0;
}

static unsigned take_weights(Stream *stream, uint8_t *weights) {
    unsigned size = take_byte(stream), index;
    const uint8_t *pairs;
    if (size < 128) {
        Stream part = stream_of(take(stream, size), size);
        return take_coded_weights(&part, weights);
    }
    pairs = take(stream, (size - 126) / 2);
    for (index = 0; index < size - 127; index++) weights[index] = pairs[index / 2] >> (index % 2 ? 0 : 4) & 15;
    return size - 127;
}

/* A literal of weight w has 2^(w-1) of the codes, which are dealt out by rising weight, then literal. */
static void take_tree(Frame *frame, Stream *stream) {
    uint8_t weights[MOST_WEIGHTS + 1];
    unsigned count = take_weights(stream, weights), longest = 0, at = 0, room = 0, literal, weight, index;
    for (literal = 0; literal < count; literal++) {
        if (weights[literal] > LONGEST_LITERAL_CODE) fail("a literal has a longer code than any");
        room += (1u << weights[literal]) >> 1;
    }
    while (room >> longest) longest++;
    if (longest < 1 || longest > LONGEST_LITERAL_CODE) fail("a tree has no codes or longer ones than any");
    room = (1u << longest) - room;
    if (room & (room - 1)) fail("the weights of a tree do not fit together");
    for (weights[count] = 1; room >> weights[count];) weights[count]++;
    for (weight = 1; weight <= longest; weight++)
        for (literal = 0; literal <= count; literal++)
            for (index = 0; weights[literal] == weight && index < 1u << (weight - 1); index++) {
                frame->code_symbols[at] = (uint8_t)literal;
                frame->code_lengths[at++] = (uint8_t)(longest + 1 - weight);
            }
    if (frame->code_lengths[0] != longest) fail("a tree has no code of its greatest length");
    frame->longest_code = longest;
}

static void take_coded_literals(Frame *frame, Stream *stream, uint64_t size, uint8_t *out, uint64_t count) {
    Backwards bits = backwards(stream, size);
    while (count--) {
        unsigned seen = bits.left < frame->longest_code ? (unsigned)bits.left : frame->longest_code;
        unsigned code = bits_at(bits.data, bits.size, bits.left - seen, seen) << (frame->longest_code - seen);
        take_back(&bits, frame->code_lengths[code]);
        *out++ = frame->code_symbols[code];
    }
    if (bits.left) fail("bits follow the last literal");
}

/* In one stream, or in four with a quarter of the literals each; the sizes of the first three precede them. */
static void take_huffman_literals(Frame *frame, Stream *stream, unsigned streams) {
    uint64_t count = frame->literals_left, quarter = (count + 3) / 4;
    Stream sizes = stream_of(take(stream, streams == 4 ? 6 : 0), 6);
    uint8_t *out = frame->literals;
    if (!frame->longest_code) fail("a tree is referred to before the first one");
    if (streams == 4 && count < 6) fail("literals are too few for four streams");
    for (; streams > 1; streams--, out += quarter, count -= quarter)
        take_coded_literals(frame, stream, take_little(&sizes, 2), out, quarter);
    take_coded_literals(frame, stream, stream->size - stream->at, out, count);
}

/* A block has all its literals in front, and its sequences after them. */
static void take_literals(Frame *frame, Stream *stream) {
    static const unsigned BYTES[2][4] = {{1, 2, 1, 3}, {3, 3, 4, 5}}, WIDTHS[2][4] = {{5, 12, 5, 20}, {10, 10, 14, 18}};
    unsigned first = take_byte(stream), kind = first & 3, format = first >> 2 & 3, packed = kind >= HUFFMAN_LITERALS;
    uint64_t header = (first | take_little(stream, BYTES[packed][format] - 1) << 8) >> (packed || format & 1 ? 4 : 3);
    uint64_t count = header & ((1u << WIDTHS[packed][format]) - 1), size = header >> WIDTHS[packed][format];
    if (count > frame->block_limit) fail("a block has more literals than it may have bytes");
    frame->literals_left = count;
    frame->literal_at = 0;
    if (packed) {
        Stream part = stream_of(take(stream, size), (size_t)size);
        if (kind == HUFFMAN_LITERALS) take_tree(frame, &part);
        take_huffman_literals(frame, &part, format ? 4 : 1);
    } else if (kind == RAW_LITERALS) memcpy(frame->literals, take(stream, count), (size_t)count);
    else memset(frame->literals, (int)take_byte(stream), (size_t)count);
}

/* Where the next bytes of the output go. */
static uint8_t *room_for(Frame *frame, uint64_t count) {
    if (count > frame->block_end - frame->done) fail("a block unpacks to more than it may");
    frame->done += count;
    return frame->out + frame->done - count;
}

static void put_literals(Frame *frame, uint64_t count) {
    if (count > frame->literals_left) fail("a block has fewer literals than it refers to");
    memcpy(room_for(frame, count), frame->literals + frame->literal_at, (size_t)count);
    frame->literal_at += count;
    frame->literals_left -= count;
}

static void put_match(Frame *frame, uint64_t distance, uint64_t count) {
    uint8_t *out;
    if (!distance || distance > frame->done) fail("a match refers to what precedes the first byte");
    for (out = room_for(frame, count); count--; out++) *out = *(out - distance);
}

/* Values to 3 name a recent distance. Right after a match, which would have gone on at the last one if it could, they
   name the two before that, and the last one less 1. */
static uint64_t distance_of(uint64_t *recent, uint64_t value, uint64_t literals) {
    uint64_t place = value > 3 ? 3 : value - (literals > 0);
    uint64_t distance = value > 3 ? value - 3 : place < 3 ? recent[place] : recent[0] - 1;
    for (place = place < 3 ? place : 2; place; place--) recent[place] = recent[place - 1];
    recent[0] = distance;
    return distance;
}

static void set_table(Frame *frame, Stream *stream, unsigned kind, unsigned mode) {
    static const int16_t TYPICAL_SHARES[KINDS][MOST_CODES] = {
        {4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1,  1,  1,  2, 2,
         2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1},
        {1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1},
        {1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,  1,  1,  1,  1,  1,  1,  1, 1,
         1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1}};
    static const unsigned LOGS[] = {6, 5, 6}, GREATEST_LOGS[] = {9, 8, 9}, CODES[] = {36, 32, 53};
    int16_t shares[MOST_CODES] = {0};
    States *table = &frame->tables[kind];
    if (mode == PREDEFINED) set_states(table, TYPICAL_SHARES[kind], CODES[kind], LOGS[kind]);
    else if (mode == DESCRIBED) take_states(stream, table, CODES[kind], GREATEST_LOGS[kind]);
    else if (mode == ONE_CODE) {
        unsigned code = take_byte(stream);
        if (code >= CODES[kind]) fail("a block has a code that there is not");
        shares[code] = 1;
        set_states(table, shares, CODES[kind], 0);
    } else if (!table->known) fail("a table is referred to before the first one");
}

/* The lengths of a code begin where those of the one before it end. */
static uint64_t take_length(Backwards *bits, unsigned kind, unsigned code) {
    static const uint8_t BITS[KINDS][MOST_CODES] = {
        {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  0,  1,  1, 1,
         1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
        {0}, /* a distance has as many bits as its code says */
        {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  0,  0,  0,
         0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
    uint64_t length = kind == MATCH_LENGTHS ? 3 : 0;
    unsigned index;
    for (index = 0; index < code; index++) length += (uint64_t)1 << BITS[kind][index];
    return length + take_back(bits, BITS[kind][code]);
}

static void put_sequence(Frame *frame, Backwards *bits, const unsigned *states) {
    unsigned codes[KINDS], kind;
    uint64_t value, length, literals;
    for (kind = 0; kind < KINDS; kind++) codes[kind] = frame->tables[kind].states[states[kind]].symbol;
    value = ((uint64_t)1 << codes[OFFSETS]) + take_back(bits, codes[OFFSETS]);
    length = take_length(bits, MATCH_LENGTHS, codes[MATCH_LENGTHS]);
    literals = take_length(bits, LITERAL_LENGTHS, codes[LITERAL_LENGTHS]);
    put_literals(frame, literals);
    put_match(frame, distance_of(frame->recent, value, literals), length);
}

/* A sequence is some literals, then a match: bytes that are in the output already. */
static void take_sequences(Frame *frame, Stream *stream) {
    static const unsigned MOVES[] = {LITERAL_LENGTHS, MATCH_LENGTHS, OFFSETS};
    unsigned count = take_byte(stream), modes, index, states[KINDS];
    Backwards bits;
    if (count == 255) count = (unsigned)take_little(stream, 2) + 0x7F00;
    else if (count > 127) count = (count - 128) << 8 | take_byte(stream);
    if (!count) return;
    modes = take_byte(stream);
    if (modes & 3) fail("a block has tables of an unknown kind");
    for (index = 0; index < KINDS; index++) set_table(frame, stream, index, modes >> (6 - 2 * index) & 3);
    bits = backwards(stream, stream->size - stream->at);
    for (index = 0; index < KINDS; index++) states[index] = take_back(&bits, frame->tables[index].log);
    while (count--) {
        put_sequence(frame, &bits, states);
        for (index = 0; count && index < KINDS; index++) { /* after the last one there is no next state */
            const State *state = &frame->tables[MOVES[index]].states[states[MOVES[index]]];
            states[MOVES[index]] = state->start + take_back(&bits, state->bits);
        }
    }
    if (bits.left) fail("bits follow the last sequence");
}

/* Returns whether it was the last. */
static int take_block(Frame *frame, Stream *stream) {
    uint64_t header = take_little(stream, 3), size = header >> 3, room = frame->size - frame->done;
    unsigned kind = header >> 1 & 3;
    if (size > frame->block_limit) fail("a block is larger than it may be");
    frame->block_end = frame->done + (room < frame->block_limit ? room : frame->block_limit);
    if (kind == RAW_BLOCK) memcpy(room_for(frame, size), take(stream, size), (size_t)size);
    else if (kind == REPEATED_BYTE) memset(room_for(frame, size), (int)take_byte(stream), (size_t)size);
    else if (kind == COMPRESSED_BLOCK) {
        Stream part = stream_of(take(stream, size), (size_t)size);
        take_literals(frame, &part);
        take_sequences(frame, &part);
        finish(&part);
        put_literals(frame, frame->literals_left);
    } else fail("a block is of an unknown kind");
    return header & 1;
}

/* Memory is taken only after the stated size was found to be `size`. */
static Frame *take_frame_header(Stream *stream, uint64_t size) {
    uint64_t window = size, stated;
    unsigned descriptor, single, size_bytes;
    Frame *frame;
    if (take_little(stream, 4) != 0xFD2FB528u) fail("a stream is no Zstandard frame");
    descriptor = take_byte(stream);
    single = descriptor >> 5 & 1;
    size_bytes = descriptor >> 6 ? 1u << (descriptor >> 6) : single;
    if (descriptor & 8) fail("a frame has a part of an unknown kind");
    if (!single) {
        unsigned byte = take_byte(stream);
        if ((byte >> 3) + 10 > LONGEST_WINDOW) fail("a frame reaches further back than any");
        window = (uint64_t)(8 + (byte & 7)) << ((byte >> 3) + 7);
    }
    if (take_little(stream, (1u << (descriptor & 3)) / 2)) fail("a frame needs a dictionary");
    if (!size_bytes) fail("a frame does not state its size");
    stated = take_little(stream, size_bytes) + (size_bytes == 2 ? 256 : 0);
    if (stated != size) fail("a frame states another size than that of its symbols");
    frame = allocate(1, sizeof *frame);
    frame->out = allocate(size, 1);
    frame->size = size;
    frame->has_checksum = descriptor >> 2 & 1;
    frame->block_limit = window < BLOCK_LIMIT ? window : BLOCK_LIMIT;
    frame->recent[0] = 1;
    frame->recent[1] = 4;
    frame->recent[2] = 8;
    return frame;
}

#define PRIME_1 0x9E3779B185EBCA87u
#define PRIME_2 0xC2B2AE3D27D4EB4Fu
#define PRIME_3 0x165667B19E3779F9u
#define PRIME_4 0x85EBCA77C2B2AE63u
#define PRIME_5 0x27D4EB2F165667C5u

static uint64_t turned(uint64_t number, unsigned bits) {
    return number << bits | number >> (64 - bits);
}

static uint64_t stirred(uint64_t sum, uint64_t lane) {
    return turned(sum + lane * PRIME_2, 31) * PRIME_1;
}

/* XXH64 with the seed 0: four sums over lanes of 8 bytes, then what is left, in 8, 4 and single bytes. */
static uint64_t xxh64_of(const uint8_t *data, uint64_t size) {
    uint64_t sums[4] = {PRIME_1 + PRIME_2, PRIME_2, 0, 0 - PRIME_1}, hash = PRIME_5, left = size;
    unsigned lane;
    for (; left >= 32; left -= 32)
        for (lane = 0; lane < 4; lane++, data += 8) sums[lane] = stirred(sums[lane], little(data, 8));
    if (size >= 32) {
        hash = turned(sums[0], 1) + turned(sums[1], 7) + turned(sums[2], 12) + turned(sums[3], 18);
        for (lane = 0; lane < 4; lane++) hash = (hash ^ stirred(0, sums[lane])) * PRIME_1 + PRIME_4;
    }
    hash += size;
    for (; left >= 8; left -= 8, data += 8) hash = turned(hash ^ stirred(0, little(data, 8)), 27) * PRIME_1 + PRIME_4;
    for (; left >= 4; left -= 4, data += 4) hash = turned(hash ^ little(data, 4) * PRIME_1, 23) * PRIME_2 + PRIME_3;
    for (; left; left--) hash = turned(hash ^ *data++ * PRIME_5, 11) * PRIME_1;
    hash = (hash ^ hash >> 33) * PRIME_2;
    hash = (hash ^ hash >> 29) * PRIME_3;
    return hash ^ hash >> 32;
}

/* The content of a frame that holds `size` bytes. */
static const uint8_t *take_frame(Stream *stream, uint64_t size) {
    Frame *frame = take_frame_header(stream, size);
    while (!take_block(frame, stream)) continue;
    if (frame->done != size) fail("a frame unpacks to less than it says");
    if (frame->has_checksum && take_little(stream, 4) != (xxh64_of(frame->out, size) & 0xFFFFFFFFu))
        fail("the checksum of a frame disagrees");
    return frame->out;
}

/* The arrays' numbers follow each other in memory, as they do in the frame. */
static void decode_zstd(Stream *stream, Array *arrays, uint64_t count) {
    uint64_t total = 0, place;
    const uint8_t *content;
    unsigned width;
    for (place = 0; place < count; place++) total += arrays[place].size;
    if (!total) return;
    width = take_byte(stream);
    if (width != 1 && width != 2 && width != 4) fail("symbols have a width that none have");
    content = take_frame(stream, total * width);
    for (place = 0; place < total; place++) {
        int64_t number = (int64_t)little(content + place * width, width);
        arrays[0].numbers[place] = as_symbol(number >> (8 * width - 1) ? number - ((int64_t)1 << 8 * width) : number);
    }
}

/* One section: the numbers of its arrays. */
static void decode(unsigned codec, const uint8_t *data, size_t size, Array *arrays, uint64_t count) {
    Stream stream = stream_of(data, size);
    uint64_t total = 0, place;
    int32_t *numbers;
    for (place = 0; place < count; place++) {
        total += arrays[place].size;
        if (total > FREE_SYMBOLS + (uint64_t)SYMBOLS_A_BYTE * size) fail("so few bytes hold no so many numbers");
    }
    numbers = allocate(total + 1, sizeof *numbers);
    for (place = 0; place < count; place++) {
        arrays[place].numbers = numbers;
        numbers += arrays[place].size;
    }
    if (!count && size) fail("there are bytes that belong to no tensor");
    if (!count) return;
    switch (codec) {
    case RAW: decode_raw(&stream, arrays, count); break;
    case HUFFMAN: decode_huffman(&stream, arrays, count); break;
    case LZW: decode_lzw(&stream, arrays, count); break;
    case RANGE: decode_range(&stream, arrays, count); break;
    case ZSTD: decode_zstd(&stream, arrays, count); break;
    }
    finish(&stream);
}

/* -- From numbers to weights -------------------------------------------------------------------------------------- */

static float float_of(int64_t pattern) {
    uint32_t bits = (uint32_t)pattern;
    float value;
    if (pattern < 0 || pattern >= 0x7F800000) fail("a scale, a center or a weight is no finite float");
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float *scales_of(const Entry *entry, unsigned exponent) {
    float *scales = allocate(entry->sides, sizeof *scales);
    uint64_t index;
    for (index = 0; index < entry->sides; index++) {
        int64_t steps = (int64_t)entry->side_numbers[index] * ((int64_t)1 << entry->shift);
        scales[index] = float_of(steps + ((int64_t)exponent << 23));
        if (!(scales[index] > 0)) fail("a scale is not above zero");
    }
    return scales;
}

static float *centers_of(const Entry *entry) {
    float *centers = allocate(entry->sides, sizeof *centers);
    uint64_t index;
    for (index = 0; index < entry->sides; index++) {
        int64_t number = entry->side_numbers[index], magnitude = number < 0 ? -1 - number : number;
        centers[index] = float_of(magnitude * ((int64_t)1 << entry->shift));
        if (number < 0) centers[index] = -centers[index];
        if (index && !(centers[index] > centers[index - 1])) fail("the centers of a codebook do not rise");
    }
    return centers;
}

static void write_grid(const Entry *entry, unsigned exponent, float *weights) {
    const float *scales = scales_of(entry, exponent);
    int32_t limit = (1 << (entry->bits - 1)) - 1;
    uint64_t index, inner = 1;
    unsigned dimension;
    if (entry->axis == NO_AXIS) inner = entry->elements;
    else
        for (dimension = entry->axis + 1; dimension < entry->dimensions; dimension++) inner *= entry->shape[dimension];
    for (index = 0; index < entry->elements; index++) {
        int32_t number = entry->numbers[index];
        float weight;
        if (number < -limit || number > limit) fail("a number is beyond its grid");
        weight = (float)((double)number * (double)scales[index / inner % entry->sides]);
        if (weight - weight != 0) fail("a weight is not finite");
        weights[index] = weight;
    }
}

static void write_codebook(const Entry *entry, float *weights) {
    const float *centers = centers_of(entry);
    uint64_t index;
    int64_t below = 0;
    while (below < (int64_t)entry->sides && centers[below] < 0) below++;
    for (index = 0; index < entry->elements; index++) {
        int64_t place = entry->numbers[index] + below;
        if (place < 0 || place >= (int64_t)entry->sides) fail("a number is beyond its codebook");
        weights[index] = centers[place];
    }
}

/* IEEE 754 half precision, its 15 bits without the sign, as a float's pattern. */
static int64_t widened_half(uint32_t bits) {
    uint32_t exponent = bits >> 10, mantissa = bits & 0x3FF;
    if (exponent == 31) return 0x7F800000;
    if (exponent) return ((int64_t)(exponent + 112) << 23) | (mantissa << 13);
    if (!mantissa) return 0;
    for (exponent = 113; !(mantissa & 0x400); mantissa <<= 1) exponent--;
    return ((int64_t)exponent << 23) | ((mantissa & 0x3FF) << 13);
}

static void write_halves(const Entry *entry, float *weights) {
    uint64_t index;
    for (index = 0; index < entry->elements; index++) {
        int32_t number = entry->numbers[index];
        uint32_t bits;
        float weight;
        if (number < -32768 || number > 32767) fail("a number is beyond 16 bits");
        bits = (uint32_t)(number < 0 ? -1 - number : number);
        weight = float_of(entry->kind == FP16 ? widened_half(bits) : (int64_t)bits << 16);
        weights[index] = number < 0 ? -weight : weight;
    }
}

/* Floats without an encoding: those that are not finite have an exponent of ones. */
static void check_finite(const uint8_t *data, uint64_t count, unsigned float_type) {
    static const unsigned EXPONENT[] = {0x7F80, 0x7FF0, 0x7C00, 0x7F80};
    unsigned size = FLOAT_BYTES[float_type], mask = EXPONENT[float_type];
    for (; count--; data += size)
        if (((unsigned)(data[size - 1] << 8 | data[size - 2]) & mask) == mask) fail("a weight is not finite");
}

/* -- The file ------------------------------------------------------------------------------------------------------- */

static uint8_t *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    uint8_t *data;
    long end;
    if (!file) fail("the file cannot be opened");
    if (fseek(file, 0, SEEK_END) || (end = ftell(file)) < 0 || fseek(file, 0, SEEK_SET)) fail("the file cannot be read");
    data = allocate((uint64_t)end + 1, 1);
    *size = fread(data, 1, (size_t)end, file);
    fclose(file);
    if (*size != (size_t)end) fail("the file cannot be read");
    return data;
}

/* Header, sections and checksum; returns the codec. */
static unsigned open_sections(const uint8_t *data, size_t size, Stream *sections, uint64_t *directory_bytes) {
    static const uint8_t MAGIC[] = {0x89, 'r', 'e', 's', 'f', 'i', 't', '\n', VERSION};
    Stream file = stream_of(data, size);
    uint64_t lengths[SECTIONS], left;
    unsigned codec, index;
    if (size < sizeof MAGIC || memcmp(take(&file, sizeof MAGIC), MAGIC, sizeof MAGIC)) fail("it is no .resfit file of version 1");
    codec = take_byte(&file);
    if (codec > RANGE) fail("the codec is unknown");
    *directory_bytes = take_varint(&file, 9);
    for (index = 0; index < SECTIONS; index++) lengths[index] = take_varint(&file, 9);
    left = size - file.at;
    for (index = 0; index < SECTIONS; index++) {
        if (lengths[index] > left) fail("the file is shorter than its header says");
        left -= lengths[index];
    }
    if (left != CHECKSUM_BYTES) fail("the file has another size than its header says");
    if (*directory_bytes > DIRECTORY_LIMIT) fail("the directory is larger than any");
    left = crc32_of(data, size - CHECKSUM_BYTES);
    for (index = 0; index < CHECKSUM_BYTES; index++)
        if (data[size - CHECKSUM_BYTES + index] != (left >> (8 * index) & 0xFF)) fail("the checksum disagrees");
    for (index = 0; index < SECTIONS; index++)
        sections[index] = stream_of(take(&file, lengths[index]), (size_t)lengths[index]);
    return codec;
}

/* What the three streams are to hold, checked before any memory is taken for it; each section is smaller than 2^56. */
static void check_density(const Stream *sections, const Directory *directory) {
    uint64_t most = IN_ALL_A_BYTE * (uint64_t)(sections[KERNELS].size + sections[VECTORS].size + sections[SCALES].size);
    uint64_t total = 0, index;
    if (most < FREE_IN_ALL) most = FREE_IN_ALL;
    for (index = 0; index < directory->count; index++) {
        const Entry *entry = &directory->entries[index];
        total += (entry->kind >= GRID ? entry->elements : 0) + entry->sides;
        if (total > most) fail("so few bytes hold no so many numbers");
    }
}

/* Decode the three streams into the entries. */
static void decode_streams(unsigned codec, const Stream *sections, Directory *directory) {
    unsigned section;
    check_density(sections, directory);
    for (section = KERNELS; section <= SCALES; section++) {
        Array *arrays = allocate(directory->count, sizeof *arrays);
        uint64_t index, count = 0;
        for (index = 0; index < directory->count; index++) {
            Entry *entry = &directory->entries[index];
            int encoded = entry->kind >= GRID && (entry->dimensions >= 2) == (section == KERNELS);
            Array own = {entry->elements, entry->dimensions, entry->shape, NULL};
            Array sides = {entry->sides, 1, &entry->sides, NULL};
            if (section == SCALES ? entry->sides > 0 : encoded) arrays[count++] = section == SCALES ? sides : own;
        }
        decode(codec, sections[section].data, sections[section].size, arrays, count);
        for (index = count = 0; index < directory->count; index++) {
            Entry *entry = &directory->entries[index];
            int encoded = entry->kind >= GRID && (entry->dimensions >= 2) == (section == KERNELS);
            if (section == SCALES ? entry->sides > 0 : encoded)
                *(section == SCALES ? &entry->side_numbers : &entry->numbers) = arrays[count++].numbers;
        }
    }
}

static const uint8_t *weights_of(const Directory *directory, const Entry *entry, Stream *floats, uint64_t *bytes) {
    float *weights;
    if (entry->kind == FLOAT || entry->kind == INT64) {
        const uint8_t *data;
        *bytes = entry->elements * (entry->kind == INT64 ? 8 : FLOAT_BYTES[directory->float_type]);
        data = take(floats, *bytes);
        if (entry->kind == FLOAT) check_finite(data, entry->elements, directory->float_type);
        return data;
    }
    *bytes = entry->elements * sizeof *weights;
    weights = allocate(entry->elements, sizeof *weights);
    if (entry->kind == GRID) write_grid(entry, directory->exponent, weights);
    else if (entry->kind == CODEBOOK) write_codebook(entry, weights);
    else write_halves(entry, weights);
    return (const uint8_t *)weights;
}

/* Name, type, shape, offset and bytes of a tensor. */
static void list(const Directory *directory, const Entry *entry, uint64_t offset, uint64_t bytes) {
    const char *type = entry->kind == INT64 ? "int64" : entry->kind == FLOAT ? FLOAT_TYPES[directory->float_type] : "float32";
    unsigned index;
    printf("%.*s %s ", (int)entry->name_bytes, entry->name, type);
    for (index = 0; index < entry->dimensions; index++) printf(index ? "x%" PRIu64 : "%" PRIu64, entry->shape[index]);
    printf("%s %" PRIu64 " %" PRIu64 "\n", entry->dimensions ? "" : "scalar", offset, bytes);
}

static void write_file(const char *path, const uint8_t *data, size_t size) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file)) fail("the output cannot be written");
}

int main(int count, char **arguments) {
    Stream sections[SECTIONS], plain;
    Directory directory;
    uint64_t directory_bytes, index, offset = 0;
    size_t size;
    const uint8_t *data;
    const uint8_t **tensors;
    uint64_t *bytes;
    unsigned codec;
    FILE *out;
    atexit(release);
    if (count < 3 || count > 4) fail("usage: unpack FILE.resfit WEIGHTS.bin [DESCRIPTION.json]");
    data = read_file(arguments[1], &size);
    codec = open_sections(data, size, sections, &directory_bytes);
    plain = stream_of(inflate(sections[DIRECTORY].data, sections[DIRECTORY].size, (size_t)directory_bytes), (size_t)directory_bytes);
    directory = read_directory(&plain);
    decode_streams(codec, sections, &directory);
    tensors = allocate(directory.count, sizeof *tensors);
    bytes = allocate(directory.count, sizeof *bytes);
    for (index = 0; index < directory.count; index++)
        tensors[index] = weights_of(&directory, &directory.entries[index], &sections[FLOATS], &bytes[index]);
    finish(&sections[FLOATS]);
    out = fopen(arguments[2], "wb"); /* only now, when all was found to be in order */
    if (!out) fail("the output cannot be written");
    for (index = 0; index < directory.count; index++) {
        if (bytes[index] && fwrite(tensors[index], 1, (size_t)bytes[index], out) != bytes[index]) fail("the output cannot be written");
        list(&directory, &directory.entries[index], offset, bytes[index]);
        offset += bytes[index];
    }
    if (fclose(out)) fail("the output cannot be written");
    if (count == 4) write_file(arguments[3], directory.description, directory.description_bytes);
    return 0;
}
