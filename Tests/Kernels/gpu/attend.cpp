// SPDX-License-Identifier: Apache-2.0
// `attend_tiles` against `plain_attend` in double precision: every reach and scheme, with keys that lie anywhere.
//
// Macros: ELEMENT, QUERY, HEAD_SIZE, as the kernels have them.
#include "ihp_plain_parameters.h"
#include "test.h"

extern "C" void attend_tiles(ihp_attend_tiles);
extern "C" void merge_tiles(ihp_attend_tiles);
extern "C" void plain_attend(ihp_plain_attend);
extern "C" void plain_spread(ihp_plain_spread);
extern "C" void fill_turns(const double *, int, int, float *);

using namespace test;

#define TEXT_OF(macro) #macro
#define TEXT(macro) TEXT_OF(macro)

constexpr int kPage = 64, kWarp = 32;

/// A call, and the memory that it names.
struct Case {
  ihp_plain_attend call = {};
  std::vector<QUERY> queries;
  std::vector<ELEMENT> keys, values;
  std::vector<int> pages, lists, counts, places;
  std::vector<double> frequencies;
  std::vector<float> sinks, turns;
  int turn_count = 0;

  Case(int reach, int scheme) {
    call.reach = reach;
    call.scheme = scheme;
    ihp_plain_input &in = call.input;
    in.kv_heads = any({1, 1, 2});
    in.heads = in.kv_heads * any({1, 2, 4});
    in.head_size = HEAD_SIZE;
    in.rows = any({1, 1, 2, between(3, 40), between(3, 40), 64, 66, 70});
    // Where tiles of keys begin and end, more often than by chance.
    in.start = any({0, between(1, 300), between(100, 300), near_tile(1, 4), near_tile(2, 4)});
    in.scale = 1 / sqrtf(HEAD_SIZE);
    in.soft_cap = one_in(3) ? 5 : 0;
    in.trained_length = one_in(4) ? 0x7fffffffffffffffLL : between(64, 600);
    fill_keys();
    queries = normals<QUERY>((size_t)in.rows * in.heads * HEAD_SIZE, 2);
    in.queries = queries.data();
    rotate();

    call.query_block = any({32, 64});
    const bool has_sets_of_heads = reach == IHP_PLAIN_SELECTED_REACH && one_in(4);
    call.sets = has_sets_of_heads ? in.heads : in.kv_heads;
    call.owners = 1;
    call.block_size = 1;
    if (one_in(2)) sinks = normals<float>(in.heads, 2);
    call.sinks = pointer(sinks);
    if (reach == IHP_PLAIN_DENSE_REACH) return;
    call.window = any({1, between(2, 100), between(2, 100), near_tile(1, 3)});
    call.sink = any({0, between(1, 40), near_tile(1, 1)});
    if (reach == IHP_PLAIN_SELECTED_REACH) select();
  }

  static int near_tile(int first, int last) { return 64 * between(first, last) + between(-2, 2); }

  /// Pages that the sequence has not, and keys that are not there yet, are no numbers.
  void fill_keys() {
    ihp_plain_input &in = call.input;
    const int length = in.start + in.rows, count = parts(length, kPage) + 2;
    for (int page = 0; page < count; page++) pages.push_back(page);
    std::shuffle(pages.begin(), pages.end(), chance);
    pages = std::vector<int>(pages.begin(), pages.end() - 2);
    keys = nothing<ELEMENT>((size_t)count * in.kv_heads * kPage * HEAD_SIZE);
    values = keys;
    for (int key = 0; key < length; key++)
      for (int head = 0; head < in.kv_heads; head++)
        for (int i = 0; i < HEAD_SIZE; i++) {
          const size_t at = (((size_t)pages[key / kPage] * in.kv_heads + head) * kPage + key % kPage) * HEAD_SIZE + i;
          narrow(normal(), keys[at]);
          narrow(normal(), values[at]);
        }
    in.keys = keys.data();
    in.values = values.data();
    in.pages = pages.data();
  }

  void rotate() {
    ihp_plain_input &in = call.input;
    in.pairs = one_in(8) ? 0 : any({HEAD_SIZE / 2, HEAD_SIZE / 2, HEAD_SIZE / 4, 4});
    in.amplitude = one_in(2) ? 1 : 1.1;
    for (int pair = 0; pair < in.pairs; pair++) frequencies.push_back(pow(10000, -(double)pair / in.pairs));
    in.frequencies = pointer(frequencies);
    // Of some calls the table has all distances, of others few or none.
    turn_count = in.pairs ? any({0, between(1, 100), 1024}) : 0;
    turns = nothing<float>((size_t)turn_count * in.pairs * 2);
    if (turn_count)
      device::launch({(unsigned)parts(turn_count * in.pairs, 256)}, {256}, 0,
                     [this] { fill_turns(frequencies.data(), call.input.pairs, turn_count, turns.data()); });
  }

  void select() {
    const ihp_plain_input &in = call.input;
    call.block_size = any({8, 16, 64});
    call.sink = call.sink / call.block_size * call.block_size;
    call.owners = any({1, call.sets});
    const int blocks = parts(in.rows, call.query_block);
    if (!one_in(10)) {
      call.max_blocks = between(2, 8);
      lists = nothing<int>((size_t)blocks * call.owners * call.max_blocks);
      counts = nothing<int>((size_t)blocks * call.owners);
      for (int list = 0; list < blocks * call.owners; list++) fill_list(list);
      call.lists = lists.data();
      call.counts = counts.data();
    }
    if (call.scheme != IHP_PLAIN_SPREAD) return;
    places = nothing<int>((size_t)blocks * call.owners * (call.max_blocks + 1));
    call.places = places.data();
    const ihp_plain_spread spread = {
        call.lists, call.counts,  places.data(), in.trained_length, call.max_blocks, call.block_size,
        call.owners, blocks,      in.start,      call.query_block,  call.sink,       call.window};
    device::launch({(unsigned)parts(blocks * call.owners, kWarp)}, {kWarp}, 0, [&] { plain_spread(spread); });
  }

  /// Blocks that begin before the end of the queries, whatever of them the window has.
  void fill_list(int list) {
    const ihp_plain_input &in = call.input;
    const int end = in.start + std::min(in.rows, (list / call.owners + 1) * call.query_block);
    std::vector<int> numbers;
    for (int number = call.sink / call.block_size; number * call.block_size < end; number++) numbers.push_back(number);
    std::shuffle(numbers.begin(), numbers.end(), chance);
    const int most = std::min(call.max_blocks, (int)numbers.size());
    counts[list] = one_in(10) ? 0 : between(std::min(1, most), most);
    // Where the window begins, more often than by chance.
    const int border = (in.start + list / call.owners * call.query_block - call.window) / call.block_size;
    const auto found = std::find(numbers.begin(), numbers.end(), border);
    if (found != numbers.end() && one_in(2)) std::iter_swap(numbers.begin(), found);
    std::sort(numbers.begin(), numbers.begin() + counts[list]);
    std::copy(numbers.begin(), numbers.begin() + counts[list], lists.begin() + (size_t)list * call.max_blocks);
  }

  std::string description() const {
    const ihp_plain_input &in = call.input;
    return described({{"reach", call.reach}, {"scheme", call.scheme}, {"heads", in.heads},
                      {"of keys", in.kv_heads}, {"sets", call.sets}, {"owners", call.owners},
                      {"rows", in.rows}, {"start", in.start}, {"block of queries", call.query_block},
                      {"sink", call.sink}, {"window", call.window}, {"block", call.block_size},
                      {"blocks", call.max_blocks}, {"pairs", in.pairs}, {"turns", turn_count},
                      {"cap", in.soft_cap}, {"trained", (double)in.trained_length}});
  }

  size_t count() const { return queries.size(); }

  /// Blocks of threads that have so many rows each.
  Extent grid(int rows) const {
    const ihp_plain_input &in = call.input;
    const int tiles = parts(call.query_block * in.heads / call.sets, rows);
    return {(unsigned)(parts(in.rows, call.query_block) * tiles), (unsigned)call.sets};
  }

  std::vector<QUERY> plainly() const {
    std::vector<QUERY> output = nothing<QUERY>(count());
    ihp_plain_attend plain = call;
    plain.output = output.data();
    const size_t numbers = IHP_PLAIN_COLUMNS * (HEAD_SIZE + 1) + IHP_PLAIN_ATTEND_ROWS * HEAD_SIZE;
    device::launch(grid(IHP_PLAIN_ATTEND_ROWS), {256}, sizeof(double) * numbers, [&] { plain_attend(plain); });
    return output;
  }

  /// By so many blocks of threads for the same rows.
  std::vector<QUERY> in_tiles(int splits) {
    std::vector<QUERY> output = nothing<QUERY>(count());
    Extent blocks = grid(IHP_ATTEND_TILE);
    const size_t left = splits > 1 ? (size_t)blocks.x * blocks.y * splits * IHP_ATTEND_TILE * (HEAD_SIZE + 2) : 0;
    std::vector<float> partials = nothing<float>(left);
    ihp_attend_tiles tiles = {call, pointer(turns), turn_count, splits, pointer(partials)};
    tiles.attend.output = output.data();
    const size_t bytes = 2 * (IHP_ATTEND_TILE + 2 * 64) * (HEAD_SIZE + 8);
    blocks.z = (unsigned)splits;
    device::launch(blocks, {128}, bytes, [&] { attend_tiles(tiles); });
    if (splits == 1) return output;
    blocks.z = (unsigned)std::min(IHP_ATTEND_TILE + 0, call.query_block * call.input.heads / call.sets);
    device::launch(blocks, {64}, 0, [&] { merge_tiles(tiles); });
    return output;
  }
};

int main() {
  Comparison outputs("attend_tiles, " TEXT(ELEMENT) ", " TEXT(QUERY) ", heads of " TEXT(HEAD_SIZE), TOLERANCE);
  const std::pair<int, int> kinds[] = {
      {IHP_PLAIN_DENSE_REACH, 0},
      {IHP_PLAIN_STREAMING_REACH, 0},
      {IHP_PLAIN_SELECTED_REACH, IHP_PLAIN_RELATIVE},
      {IHP_PLAIN_SELECTED_REACH, IHP_PLAIN_CHUNK_INDEXED},
      {IHP_PLAIN_SELECTED_REACH, IHP_PLAIN_INFLLM},
      {IHP_PLAIN_SELECTED_REACH, IHP_PLAIN_SELF_EXTEND},
      {IHP_PLAIN_SELECTED_REACH, IHP_PLAIN_STREAMING},
      {IHP_PLAIN_SELECTED_REACH, IHP_PLAIN_SPREAD},
      {IHP_PLAIN_SELECTED_REACH, IHP_PLAIN_ABSOLUTE},
  };
  for (int repeat = 0; repeat < 6; repeat++)
    for (const auto &kind : kinds) {
      Case one(kind.first, kind.second);
      outputs.begin(one.description());
      const std::vector<QUERY> want = one.plainly(), got = one.in_tiles(any({1, 2, 7}));
      for (size_t i = 0; i < want.size(); i++)
        outputs.expect(widen(got[i]), widen(want[i]), std::max(1.0f, fabsf(widen(want[i]))));
    }
  outputs.report();
}
