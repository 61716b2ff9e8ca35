// SPDX-License-Identifier: Apache-2.0

/// A figure as an SVG file of its own: opens in a browser, and follows its light or dark scheme.
public enum Figure: Sendable {
  /// Lines over named places.
  case lines(LineChart)
  /// Cells coloured by a share.
  case heatMap(HeatMap)

  /// Lines over named places, shares or other numbers upwards.
  public struct LineChart: Sendable {
    let title: String
    let places: [String]
    let series: [Series]
    /// The value at the top; the bottom is 0.
    let top: Double

    /// One line; nil where there is no value.
    public struct Series: Sendable {
      let name: String
      let values: [Double?]
    }
  }

  /// Shares from 0 to 1 in rows and columns; nil where there is none.
  public struct HeatMap: Sendable {
    let title: String
    let columns: [String]
    let rows: [String]
    let cells: [[Double?]]
  }

  /// The file's contents.
  public var svg: String {
    switch self {
    case .lines(let chart): chart.svg
    case .heatMap(let map): map.svg
    }
  }
}

private let style = """
  <style>
  :root { color-scheme: light dark; --ink: #1d2733; --soft: #5d6b7a; --line: #d5dbe1; --paper: #ffffff;
    --low: #f2d9c9; --high: #1f7a5c; --c0: #1f7a5c; --c1: #b4552d; --c2: #3a6ea5; --c3: #8a5fb0;
    --c4: #a08400; --c5: #c23f6e; --c6: #4d8f8b; --c7: #6b6b6b }
  @media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --soft: #9aa7b4; --line: #38434e;
    --paper: #14191f; --low: #4a2f22; --high: #4fc79b; --c0: #4fc79b; --c1: #ef9a70; --c2: #7db4ee;
    --c3: #c39be6; --c4: #dfc24a; --c5: #f283a9; --c6: #86cfca; --c7: #b0b0b0 } }
  text { font: 13px system-ui, sans-serif; fill: var(--ink) }
  .title { font-weight: 600; font-size: 15px } .soft { fill: var(--soft) }
  </style>
  """

private func file(_ width: Int, _ height: Int, _ title: String, _ body: [String]) -> String {
  """
  <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(width) \(height)" width="\(width)" \
  height="\(height)" role="img" aria-label="\(escaped(title))">
  \(style)
  <rect width="100%" height="100%" style="fill: var(--paper)"/>
  <text class="title" x="16" y="26">\(escaped(title))</text>
  \(body.joined(separator: "\n"))
  </svg>

  """
}

private func escaped(_ text: String) -> String {
  var result = ""
  for character in text {
    switch character {
    case "&": result += "&amp;"
    case "<": result += "&lt;"
    case ">": result += "&gt;"
    case "\"": result += "&quot;"
    default: result.append(character)
    }
  }
  return result
}

extension Figure.LineChart {
  fileprivate var svg: String {
    let (left, top, width, height) = (64, 48, 480, 260)
    let labels = left + width + 16
    func x(_ index: Int) -> Int {
      places.count < 2 ? left + width / 2 : left + width * index / (places.count - 1)
    }
    func y(_ value: Double) -> Int {
      let share = value / self.top
      return top + height - Int(Double(height) * (share.isFinite ? min(max(share, 0), 1) : 1))
    }
    var body: [String] = []
    for step in 0...4 {
      let value = self.top * Double(step) / 4
      let text = self.top <= 1.001 ? percent(value) : "\((value * 100).rounded() / 100)"
      body.append(
        "<path d=\"M\(left) \(y(value))H\(left + width)\" style=\"stroke: var(--line)\"/>"
          + "<text class=\"soft\" x=\"\(left - 8)\" y=\"\(y(value) + 4)\" text-anchor=\"end\">\(text)</text>"
      )
    }
    for (index, place) in places.enumerated() {
      body.append(
        "<text class=\"soft\" x=\"\(x(index))\" y=\"\(top + height + 22)\" text-anchor=\"middle\">"
          + "\(escaped(place))</text>")
    }
    // Names stand at the end of their lines, moved apart where lines end close together.
    var taken: [Int] = []
    for (index, line) in series.enumerated() {
      let color = "var(--c\(index % 8))"
      var path = ""
      var last = 0.0
      for (place, value) in line.values.enumerated() {
        guard let value else { continue }
        path += "\(path.isEmpty ? "M" : "L")\(x(place)) \(y(value))"
        body.append(
          "<circle cx=\"\(x(place))\" cy=\"\(y(value))\" r=\"3.5\" style=\"fill: \(color)\"/>")
        last = value
      }
      body.append("<path d=\"\(path)\" style=\"fill: none; stroke: \(color); stroke-width: 2\"/>")
      var place = y(last) + 4
      while taken.contains(where: { abs($0 - place) < 16 }) { place -= 1 }
      if place < top {
        place = y(last) + 4
        while taken.contains(where: { abs($0 - place) < 16 }) { place += 1 }
      }
      taken.append(place)
      body.append(
        "<text x=\"\(labels)\" y=\"\(place)\" style=\"fill: \(color)\">\(escaped(line.name))</text>"
      )
    }
    return file(labels + 180, top + height + 40, title, body)
  }
}

extension Figure.HeatMap {
  fileprivate var svg: String {
    let (left, top, cell) = (96, 48, (width: 72, height: 30))
    var body: [String] = []
    for (column, name) in columns.enumerated() {
      let x = left + column * cell.width + cell.width / 2
      body.append(
        "<text class=\"soft\" x=\"\(x)\" y=\"\(top + rows.count * cell.height + 22)\" "
          + "text-anchor=\"middle\">\(escaped(name))</text>")
    }
    for (row, name) in rows.enumerated() {
      let y = top + row * cell.height
      body.append(
        "<text class=\"soft\" x=\"\(left - 8)\" y=\"\(y + 20)\" text-anchor=\"end\">"
          + "\(escaped(name))</text>")
      for (column, value) in cells[row].enumerated() {
        let x = left + column * cell.width
        guard let value else { continue }
        let share = Int((value * 100).rounded())
        body.append(
          "<rect x=\"\(x + 1)\" y=\"\(y + 1)\" width=\"\(cell.width - 2)\" height=\"\(cell.height - 2)\" "
            + "rx=\"3\" style=\"fill: color-mix(in oklab, var(--high) \(share)%, var(--low))\"/>"
            + "<text x=\"\(x + cell.width / 2)\" y=\"\(y + 20)\" text-anchor=\"middle\">\(share)</text>"
        )
      }
    }
    let width = max(left + columns.count * cell.width + 24, 16 + title.count * 9)
    return file(width, top + rows.count * cell.height + 40, title, body)
  }
}
