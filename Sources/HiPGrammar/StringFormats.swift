// SPDX-License-Identifier: Apache-2.0

/// The formats of texts, as patterns without anchors.
enum StringFormats {
  static let names = patterns.keys.sorted()

  static let patterns: [String: String] = [
    "date": date, "time": time, "date-time": "(\(date))T(\(time))", "duration": duration,
    "email": email, "hostname": hostname, "ipv4": ipv4, "ipv6": ipv6,
    "uuid": "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
  ]

  /// Days that exist, those of leap years included.
  private static let date: String = {
    let long = "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
    let short = "(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    let february = "02-(0[1-9]|1[0-9]|2[0-8])"
    let fourths = "0[48]|[2468][048]|[13579][26]"
    let leap = "([0-9]{2}(\(fourths))|(00|\(fourths))00)-02-29"
    return "[0-9]{4}-(\(long)|\(short)|\(february))|\(leap)"
  }()

  private static let time =
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?"
    + "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"

  private static let duration: String = {
    let count = "[0-9]{1,9}"
    let seconds = "\(count)S"
    let minutes = "\(count)M(\(seconds))?"
    let time = "T(\(count)H(\(minutes))?|\(minutes)|\(seconds))"
    let months = "\(count)M(\(count)D)?"
    let date = "\(count)Y(\(months))?|\(months)|\(count)D"
    return "P((\(date))(\(time))?|\(time)|\(count)W)"
  }()

  private static let label = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
  // Three labels stay within the 253 characters of a name.
  private static let hostname = "\(label)(\\.\(label)){0,2}"
  private static let atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
  // One dot at most, so that the part before the sign stays within 64 characters.
  private static let email = "\(atom){1,31}(\\.\(atom){1,31})?@\(label)(\\.\(label)){1,2}"

  private static let byte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
  private static let ipv4 = "\(byte)(\\.\(byte)){3}"

  private static let ipv6: String = {
    let group = "[0-9a-fA-F]{1,4}"
    let tail = "(\(group):\(group)|\(ipv4))"
    var options = ["(\(group):){6}\(tail)", "::(\(group):){5}\(tail)"]
    // `::` stands for at least one group: so many before it, and the others behind.
    for before in 0...4 {
      let head = "(\(group)(:\(group)){0,\(before)})?::"
      let middle = before < 4 ? "(\(group):){\(4 - before)}" : ""
      options.append("\(head)\(middle)\(tail)")
    }
    options.append("(\(group)(:\(group)){0,5})?::\(group)")
    options.append("(\(group)(:\(group)){0,6})?::")
    return options.joined(separator: "|")
  }()
}
