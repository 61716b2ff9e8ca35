// SPDX-License-Identifier: Apache-2.0

public import HiPTensors

/// Memory of a device; freed with its last reference.
public protocol DeviceBuffer: AnyObject {
  /// Size in bytes.
  var byteCount: Int { get }
}

/// A dense matrix `[rows, columns]` in a device's memory, rows one after another.
public struct DeviceTensor {
  /// The memory.
  public let buffer: any DeviceBuffer
  /// Bytes before the first element.
  public let offset: Int
  /// How elements are stored.
  public let element: ElementType
  /// Number of rows.
  public let rows: Int
  /// Elements of a row.
  public let columns: Int

  /// Names a part of a buffer, which must be large enough.
  public init(
    buffer: any DeviceBuffer, offset: Int = 0, element: ElementType, rows: Int, columns: Int
  ) {
    precondition(offset + rows * element.byteCount(of: columns) <= buffer.byteCount)
    self.buffer = buffer
    self.offset = offset
    self.element = element
    self.rows = rows
    self.columns = columns
  }

  /// Bytes of a row.
  public var rowByteCount: Int { element.byteCount(of: columns) }

  /// The same elements in rows of another length, which must divide the present one.
  public func reshaped(columns count: Int) -> DeviceTensor {
    precondition(columns % count == 0 && element.blockSize == 1)
    return DeviceTensor(
      buffer: buffer, offset: offset, element: element, rows: rows * (columns / count),
      columns: count)
  }

  /// The rows in `range`, without a copy.
  public func rows(_ range: Range<Int>) -> DeviceTensor {
    precondition(range.lowerBound >= 0 && range.upperBound <= rows)
    return DeviceTensor(
      buffer: buffer, offset: offset + range.lowerBound * rowByteCount, element: element,
      rows: range.count, columns: columns)
  }
}
