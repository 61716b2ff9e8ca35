// SPDX-License-Identifier: Apache-2.0

import HiPJSON

/// Arrays.
extension SchemaCompiler {
  func array(_ keywords: SchemaKeywords, then next: Node) throws(GrammarError) -> Node {
    let shape = try ArrayShape(keywords, compiler: self)
    let close = builder.literal("]", then: next)
    let filledClose = builder.spaced(then: close)
    func option(_ count: Int, _ item: Node, _ close: Node) -> Node {
      count >= shape.least ? builder.split([item, close]) : item
    }
    // From the end: what follows that many items.
    var count = shape.most ?? max(1, shape.least, shape.first.count)
    var rest = filledClose
    if shape.most == nil {
      rest = builder.loop(exit: filledClose) { rest in
        builder.comma(then: builder.call(shape.rule(at: count), then: rest))
      }
    }
    while count > 1, !builder.isFull {
      count -= 1
      let item = builder.call(shape.rule(at: count), then: rest)
      rest = option(count, builder.comma(then: item), filledClose)
    }
    let first = count > 0 ? builder.call(shape.rule(at: 0), then: rest) : close
    return builder.literal("[", then: builder.spaced(then: option(0, first, close)))
  }
}

/// What an array holds at each place, and how many items.
private struct ArrayShape {
  let first: [Int32]
  let others: Int32
  let least: Int
  let most: Int?

  init(_ keywords: SchemaKeywords, compiler: SchemaCompiler) throws(GrammarError) {
    let place = keywords.place
    let bounds = try keywords.bounds("minItems", "maxItems")
    first = (try keywords.items("prefixItems") ?? []).enumerated().map {
      compiler.rule($1, at: place.child("prefixItems", "\($0)"))
    }
    least = bounds.least
    guard keywords["items"] == .flag(false) else {
      others =
        keywords["items"].map { compiler.rule($0, at: place.child("items")) }
        ?? compiler.builder.anyValueRule
      most = bounds.most
      return
    }
    others = compiler.builder.anyValueRule
    most = min(first.count, bounds.most ?? first.count)
    guard least <= first.count else {
      throw keywords.error(
        .unsatisfiable, "`minItems` \(least) exceeds the items of `prefixItems`", in: "minItems")
    }
  }

  func rule(at index: Int) -> Int32 { index < first.count ? first[index] : others }
}
