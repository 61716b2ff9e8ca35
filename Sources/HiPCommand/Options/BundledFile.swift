// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPTensors

/// A file that comes with the source.
enum BundledFile: String {
  case demoModel = "Models/hip-demo-28m.Q8_0.gguf"
  case novel = "Examples/books/war-and-peace.txt"

  /// Where it is: below the working directory, or below a folder that the program lies in.
  func path() throws(FileError) -> String {
    var folders = [URL(filePath: FileManager.default.currentDirectoryPath)]
    if var folder = Bundle.main.executableURL?.resolvingSymlinksInPath() {
      for _ in 0..<6 {
        folder.deleteLastPathComponent()
        folders.append(folder)
      }
    }
    for folder in folders {
      let path = folder.appending(path: rawValue).path(percentEncoded: false)
      if FileManager.default.fileExists(atPath: path) { return path }
    }
    throw FileError(
      path: rawValue,
      problem: "was not found here or beside the program. Run this in the source folder, or name a "
        + (self == .demoModel ? "model with --model" : "text with --file"))
  }
}
