// SPDX-License-Identifier: Apache-2.0

import CHiPSIMD
import HiPKVFiles
import TestSupport
import Testing

@Suite struct ChecksumTests {
  @Test func aKnownSumIsFound() {
    #expect(ihp_crc32c(0, Array("123456789".utf8), 9) == 0xe306_9283)
    #expect(ihp_crc32c(0, nil, 0) == 0)
  }

  @Test(arguments: [1, 7, 8, 63, 8183, 8184, 8192, 8200, 16384, 16390])
  func aSumIsThatOfItsBits(_ count: Int) {
    var numbers = SeededNumbers(UInt64(count))
    let bytes = (0..<count + 3).map { _ in UInt8(numbers.index(below: 256)) }
    let start = UInt32(numbers.index(below: 1 << 31))
    var expected = ~start
    for byte in bytes.dropFirst(3) {
      expected ^= UInt32(byte)
      for _ in 0..<8 { expected = expected >> 1 ^ (expected & 1 == 1 ? 0x82f6_3b78 : 0) }
    }
    bytes.withUnsafeBytes { buffer in
      let address = buffer.baseAddress.map { $0 + 3 }
      #expect(ihp_crc32c(start, address, count) == ~expected)
      // In two parts, too.
      let half = count / 2
      let first = ihp_crc32c(start, address, half)
      #expect(ihp_crc32c(first, address.map { $0 + half }, count - half) == ~expected)
    }
  }

  @Test func digestsAreWrittenInHexadecimalDigits() {
    let digest = Digest256(of: Array("abc".utf8))
    #expect(digest.hex == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(Digest256(hex: digest.hex) == digest)
    #expect(Digest256(hex: String(digest.hex.dropLast())) == nil)
    #expect(Digest256(hex: digest.hex.dropLast() + "g") == nil)
  }

  @Test func areasAreAligned() {
    let shape = SegmentShape(
      blockSize: 64, blocksPerSegment: 16, pagesPerBlock: 32, pageByteCount: 8192,
      sketchByteCount: 1000)
    #expect(shape.sketchOffset % 4096 == 0 && shape.pageOffset == shape.sketchOffset + 16384)
    #expect(shape.offset(page: 0, block: 1) == shape.pageOffset + 8192)
    #expect(shape.offset(page: 1, block: 0) == shape.pageOffset + 16 * 8192)
    #expect(shape.byteCount == shape.pageOffset + 512 * 8192)
  }
}
