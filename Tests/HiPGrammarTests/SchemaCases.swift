// SPDX-License-Identifier: Apache-2.0

extension SchemaCase {
  static let scalars = [
    SchemaCase(
      schema: #"{"type":"string"}"#,
      yes: [#""""#, #""aé😀""#, #""\n\"\\\/\u00e9\uD7ff\ue000""#],
      no: [#""a"#, "\"\n\"", #""\x""#, #""\ud800""#, #""\uDC00""#, #""\u12""#, " \"\"", "\"\" "]),
    SchemaCase(
      schema: #"{"type":"number"}"#,
      yes: ["0", "-0", "12.50", "1e9", "-1.5E-300", "9999999999999999", "1e+289", "0.25e2"],
      no: ["01", "+1", ".5", "1.", "1e", "1e290", "10000000000000000", "1.00000000000000000", "-"]),
    SchemaCase(
      schema: #"{"type":"integer"}"#, yes: ["0", "-1", "9999999999999999"],
      no: ["1.0", "-0", "00", "10000000000000000", "1e3"]),
    SchemaCase(
      schema: #"{"type":"integer","exclusiveMinimum":-3,"exclusiveMaximum":12.5}"#,
      yes: ["-2", "0", "9", "10", "12"], no: ["-3", "13", "-12", "100"]),
    SchemaCase(
      schema: #"{"type":"integer","minimum":0.5,"maximum":9223372036854775807}"#,
      yes: ["1", "9999999999999999"], no: ["0", "-1"]),
    SchemaCase(
      schema: #"{"type":"integer","minimum":-1e300,"exclusiveMaximum":-7}"#,
      yes: ["-8", "-100"], no: ["-7", "0", "8"]),
    SchemaCase(schema: #"{"type":"boolean"}"#, yes: ["true", "false"], no: ["null", "True"]),
    SchemaCase(schema: #"{"type":"null"}"#, yes: ["null"], no: ["0", "nul"]),
    SchemaCase(
      schema: #"{"type":["string","null"],"minLength":1}"#, yes: ["null", "\"a\""], no: ["\"\""]),
    SchemaCase(
      schema: #"{"type":"integer","nullable":true}"#, yes: ["null", "4"], no: ["\"4\""]),
    SchemaCase(
      schema: #"{"type":"string","minLength":2,"maxLength":3}"#,
      yes: [#""ab""#, #""😀é\n""#, #""\u00e9\u00e9""#], no: [#""a""#, #""abcd""#, #""""#]),
    SchemaCase(
      schema: #"{"enum":["a","ab","b\"\n",1,1.5,null,true,[1,{"k":[]}]]}"#,
      yes: [
        #""a""#, #""ab""#, #""b\"\n""#, "1", "1.5", "null", "true", #"[1,{"k":[]}]"#,
        "[1, {\"k\": [\n]}\n]",
      ],
      no: [#""abc""#, #""b""#, "2", "1.", "false", "[1]", "[]"]),
    SchemaCase(
      schema: #"{"type":"string","enum":["a",1]}"#, yes: [#""a""#], no: ["1"]),
    SchemaCase(schema: #"{"const":{"a":-2}}"#, yes: [#"{"a":-2}"#, "{ \"a\": -2 }"], no: ["{}"]),
  ]

  static let composites = [
    SchemaCase(
      schema: #"{"type":"object","properties":{"a":{"type":"null"},"b":{},"c":{"type":"null"}},"#
        + #""required":["b"]}"#,
      yes: [
        #"{"b":1}"#, #"{"a":null,"b":[{"x":"y"}]}"#, #"{"b":{},"c":null}"#,
        "{\n  \"a\": null,\n  \"b\": 2,\n  \"c\": null\n}",
      ],
      no: [
        "{}", #"{"a":null}"#, #"{"c":null,"b":1}"#, #"{"b":1,}"#, #"{,"b":1}"#, #"{"b":1"c":null}"#,
        #"{"b":1,"d":2}"#, #"{"b":1,"b":1}"#,
      ]),
    SchemaCase(
      schema: #"{"properties":{"a":{},"b":{}}}"#,
      yes: ["{}", "{ }", #"{"a":1}"#, #"{"b":1}"#, #"{"a":1,"b":2}"#], no: [#"{"b":1,"a":2}"#]),
    SchemaCase(
      schema: #"{"type":"object"}"#, yes: ["{}", #"{"a\n":[1,"x",{"b":null}]}"#],
      no: ["[]", "{1:2}", #"{"a"}"#, #"{"a" :1}"#, #"{"a":1 ,"b":2}"#]),
    SchemaCase(schema: #"{"type":"object","properties":{}}"#, yes: ["{}"], no: [#"{"a":1}"#]),
    SchemaCase(
      schema: #"{"type":"object","additionalProperties":{"type":"integer"}}"#,
      yes: ["{}", #"{"a":1,"b":2}"#], no: [#"{"a":"1"}"#]),
    SchemaCase(
      schema: #"{"properties":{"ab":{"type":"null"}},"additionalProperties":{"type":"integer"}}"#,
      yes: [
        "{}", #"{"ab":null}"#, #"{"ab":null,"a":1,"abc":2}"#, #"{"":1}"#, #"{"é":1,"ac":3}"#,
      ],
      no: [#"{"ab":1}"#, #"{"x":1,"ab":1}"#, #"{"\u0061b":1}"#, #"{"a":null}"#]),
    SchemaCase(
      schema: #"{"type":"object","required":["x"]}"#, yes: [#"{"x":1}"#, #"{"x":1,"y":2}"#],
      no: ["{}", #"{"y":1}"#]),
    SchemaCase(
      schema: #"{"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3}"#,
      yes: ["[1]", "[1,2]", "[ 1, 2, 3 ]"], no: ["[]", "[1,2,3,4]", "[1,]", "[,1]", "[1 ,2]"]),
    SchemaCase(schema: #"{"type":"array","maxItems":0}"#, yes: ["[]", "[ ]"], no: ["[1]"]),
    SchemaCase(schema: #"{"type":"array"}"#, yes: ["[]", "[1,[2,{}]]"], no: ["{}", "[1"]),
    SchemaCase(
      schema: #"{"prefixItems":[{"type":"integer"},{"type":"null"}],"items":{"type":"boolean"}}"#,
      yes: ["[]", "[1]", "[1,null]", "[1,null,true,false]"], no: ["[null]", "[1,null,null]"]),
    SchemaCase(
      schema: #"{"prefixItems":[{"type":"integer"},{"type":"null"}],"items":false,"minItems":1}"#,
      yes: ["[1]", "[1,null]"], no: ["[]", "[1,null,1]"]),
    SchemaCase(
      schema: #"{"anyOf":[{"type":"integer"},{"properties":{"k":{"const":"v"}},"#
        + #""required":["k"]}]}"#,
      yes: ["3", #"{"k":"v"}"#], no: [#"{"k":"w"}"#, "{}"]),
    SchemaCase(
      schema: #"{"oneOf":[{"const":1},{"const":12}]}"#, yes: ["1", "12"], no: ["2", "121"]),
    SchemaCase(
      schema: ##"{"allOf":[{"$ref":"#/$defs/a~1b"}],"$defs":{"a/b":{"type":"null"}}}"##,
      yes: ["null"], no: ["1"]),
    SchemaCase(
      schema: #"{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":"#
        + ##"[{"$ref":"#"},{"type":"null"}]}},"required":["v","next"]}"##,
      yes: [#"{"v":1,"next":null}"#, #"{"v":1,"next":{"v":2,"next":{"v":3,"next":null}}}"#],
      no: [#"{"v":1}"#, #"{"v":1,"next":{"v":2}}"#]),
    SchemaCase(
      schema: ##"{"$ref":"#/definitions/n","definitions":{"n":{"type":"object","properties":"##
        + ##"{"kids":{"type":"array","items":{"$ref":"#/definitions/n"}}},"required":["kids"]}}}"##,
      yes: [#"{"kids":[]}"#, #"{"kids":[{"kids":[]},{"kids":[{"kids":[]}]}]}"#],
      no: ["{}", #"{"kids":[{}]}"#]),
    SchemaCase(schema: "{}", yes: ["1", "\"a\"", "[]", "{}", "null"], no: ["", "nope"]),
    SchemaCase(schema: "true", yes: ["1", "[[],{}]"], no: ["]"]),
    SchemaCase(
      schema: #"{"title":"t","description":"d","default":1,"examples":[],"$schema":"s","$id":"i","#
        + #""$comment":"c","deprecated":true,"readOnly":true,"writeOnly":false,"strict":true,"#
        + #""uniqueItems":false}"#, yes: ["1"], no: [""]),
  ]

  private static func pattern(_ pattern: String, _ yes: [String], _ no: [String]) -> SchemaCase {
    SchemaCase(
      schema: #"{"type":"string","pattern":"\#(pattern)"}"#, yes: yes.map { "\"\($0)\"" },
      no: no.map { "\"\($0)\"" })
  }

  private static func format(_ name: String, _ yes: [String], _ no: [String]) -> SchemaCase {
    SchemaCase(
      schema: #"{"type":"string","format":"\#(name)"}"#, yes: yes.map { "\"\($0)\"" },
      no: no.map { "\"\($0)\"" })
  }

  static let patterns = [
    pattern("^[a-c]+$", ["a", "abc"], ["", "abd"]),
    pattern("b", ["b", "abc", "é b"], ["", "ac"]),
    pattern("^a|c$", ["a", "ab", "c", "bc"], ["ba", "cb", ""]),
    pattern("^(?:ab|cd){2,3}$", ["abcd", "ababab"], ["ab", "abababab", "abc"]),
    pattern("^x{2,}y?z*?$", ["xx", "xxxyzz"], ["x", "xxyy"]),
    pattern("^x{3}$", ["xxx"], ["xx", "xxxx"]),
    pattern(#"^\\d\\s\\w\\.$"#, ["1 a.", #"1\ta."#], ["1 ab", "a a."]),
    pattern(#"^[^\\w-]$"#, ["!", "é", #"\""#, #"\\"#], ["a", "-", "ab"]),
    pattern(#"^[\\w.-]+\\\\\"$"#, [#"a-.\\\""#], [#"a\\"#]),
    pattern("^.{2}$", ["é😀", "a😀"], ["a", #"a\n"#, "abc"]),
    pattern(#"^[α-ω\\u0041-\\u0043]+$"#, ["αωB"], ["D", "я"]),
    pattern(#"^\\/\\$\\x41\\n$"#, [#"/$A\n"#], ["/$A"]),
    pattern("^(a*)*(b|)+$", ["", "aa", "ab", "bb"], ["ba"]),
    pattern("", ["", "x"], [#"\x"#]),
    format(
      "date", ["2024-02-29", "2000-02-29", "2023-12-31"],
      ["2023-02-29", "1900-02-29", "2023-13-01", "2023-04-31"]),
    format("time", ["23:59:59Z", "00:00:00.123+02:00"], ["24:00:00Z", "12:00:00", "1:00:00Z"]),
    format("date-time", ["2024-01-02T03:04:05Z"], ["2024-01-02", "2024-01-02 03:04:05Z"]),
    format("duration", ["P1Y2M3DT4H5M6S", "PT1M", "P2W", "P1D"], ["P", "PT", "P1", "P1YT"]),
    format("email", ["a.b@c.org", "x+y@a-b.c.de"], ["a@b", "@a.b", "a..b@c.d", "a b@c.d"]),
    format("hostname", ["a", "a-b.example"], ["-a", "a-", "a..b", ""]),
    format("ipv4", ["0.0.0.0", "255.10.9.199"], ["256.1.1.1", "1.2.3", "01.2.3.4"]),
    format(
      "ipv6",
      ["::", "::1", "1::", "1:2:3:4:5:6:7:8", "2001:db8::8:800:200c:417a", "::ffff:1.2.3.4"],
      ["1:2:3:4:5:6:7", "1::2::3", "12345::", "1:2:3:4:5:6:7:8:9", ":::"]),
    format(
      "uuid", ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567e89b12d3a456426614174000"]),
  ]
}
