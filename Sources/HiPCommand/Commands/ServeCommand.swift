// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPModelStore
import HiPServer
import InfiniteHiP
import Logging

struct ServeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve",
    abstract: "Serve the Ollama and OpenAI APIs, and a page at /ui.",
    discussion: """
      Models are the one given by --model (the demo model by default), the GGUF files and Hugging \
      Face folders below --models, and those of Ollama's store, which is only read. Created and \
      pulled ones go to --store.

      Only this machine is listened to unless --host says otherwise. Then give --api-key-file, too.
      """)

  @OptionGroup var options: ModelOptions
  @OptionGroup(title: "Keys and values") var kv: TierOptions

  @Option(help: ArgumentHelp("The address to listen on.", valueName: "address"))
  var host = "127.0.0.1"

  @Option(help: ArgumentHelp("The port; 0 takes a free one.", valueName: "n"))
  var port = 11434

  @Option(
    help: ArgumentHelp("Folder of GGUF files and Hugging Face folders.", valueName: "folder"))
  var models: [String] = []

  @Option(
    help: ArgumentHelp(
      "Folder of created and pulled models. (default: ~/.infinitehip/models)", valueName: "folder"))
  var store: String?

  @Option(
    help: ArgumentHelp(
      "Ollama's store, which is only read. (default: OLLAMA_MODELS, or where Ollama has it)",
      valueName: "folder"))
  var ollamaStore: String?

  @Option(
    help: ArgumentHelp(
      "Where names without a host are pulled from, as https://HOST.", valueName: "url"))
  var registry: String?

  @Option(
    help: ArgumentHelp(
      "File whose first line, of 8 characters or more, requests must bring as a bearer token.",
      valueName: "file"))
  var apiKeyFile: String?

  @Option(
    help: ArgumentHelp(
      "A page elsewhere that may ask, as https://example.org; may be repeated.", valueName: "url"))
  var origin: [String] = []

  @Option(help: ArgumentHelp("Requests that are answered at once.", valueName: "n"))
  var parallel = 16

  @Option(help: ArgumentHelp("Requests that wait besides; more get 503.", valueName: "n"))
  var queue = 512

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "How long a model stays loaded after its last request, as 5m; -1 for ever.",
      valueName: "time"))
  var keepAlive = "5m"

  @Option(help: ArgumentHelp("Models that are loaded at once.", valueName: "n"))
  var loadedModels = 2

  @Option(help: ArgumentHelp("The largest body of a request, as 64M.", valueName: "size"))
  var maxBody = ByteSize(count: 64 << 20)

  @Option(help: ArgumentHelp("What is logged: debug, info, warning, error.", valueName: "level"))
  var logLevel = "info"

  func validate() throws {
    guard (0...65535).contains(port) else {
      throw ValidationError("--port is \(port); give 0 to 65535")
    }
    guard parallel >= 1, queue >= 0, loadedModels >= 1 else {
      throw ValidationError("--parallel and --loaded-models must be 1 or more, --queue 0 or more")
    }
    for folder in models {
      var isFolder: ObjCBool = false
      let exists = unsafe FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder)
      guard exists, isFolder.boolValue else {
        throw ValidationError("--models \(folder) is no folder")
      }
    }
    guard Logger.Level(rawValue: logLevel) != nil else {
      let known = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
      throw ValidationError("--log-level is \(logLevel); there are \(known)")
    }
    guard ServerSettings.keepAliveSeconds(keepAlive) != nil else {
      throw ValidationError("--keep-alive is \(keepAlive); give a time such as 30s, 5m, 1h, or -1")
    }
  }

  func run() async throws {
    let settings = try settings()
    if options.place.device != .cpu {
      try kv.refuseFiles()
      // Whether there is one is known before anybody asks.
      _ = try options.makeBackend()
    }
    var logger = Logger(label: "infinitehip") { StreamLogHandler.standardError(label: $0) }
    logger.logLevel = Logger.Level(rawValue: logLevel) ?? .info
    if apiKeyFile == nil, !["127.0.0.1", "localhost", "::1"].contains(host) {
      logger.warning("whoever reaches \(host) may ask; --api-key-file lets in only who has a key")
    }
    let catalog = try catalog()
    let server = InferenceServer(catalog, settings, logger) { [options, kv] stored, settings in
      guard let path = stored.path else {
        throw ValidationError("\(stored.name) names no model file")
      }
      let memory = settings.cacheBytes ?? MachineMemory.physicalByteCount / 2
      let share = memory / min(settings.loadedModels, max(1, catalog.models().count))
      var tiers: KVTiers?
      if options.place.device == .cpu {
        tiers = kv.tiers()
        tiers?.memoryByteCount = share
      }
      return try await LanguageModel.load(
        path,
        template: try options.template.map { .jinja(try TextFile.read($0)) }
          ?? stored.template.map { .go($0) }, kvType: options.kvType, weights: options.weights,
        cacheLimit: settings.cacheBytes.map { _ in share }, tiers: tiers, on: options.makeBackend)
    }
    do {
      try await listen(server)
    } catch let error as any CustomStringConvertible & Error
      where "\(error)".contains("Address already in use")
    {
      throw ValidationError(
        "port \(port) of \(host) is taken, by another server as it seems; give another one with --port"
      )
    }
  }

  private func listen(_ server: InferenceServer) async throws {
    try await server.run { [host] port in
      let address = "http://\(host.contains(":") ? "[\(host)]" : host):\(port)"
      Terminal.line("The Ollama and OpenAI APIs: \(address)\nThe page: \(address)/ui")
    }
  }

  private func settings() throws -> ServerSettings {
    var settings = ServerSettings()
    settings.host = host
    settings.port = port
    settings.origins = origin
    settings.parallel = parallel
    settings.queue = queue
    settings.contextLimit = options.contextLimit
    settings.attention = try options.attention.choice()
    settings.keepAliveSeconds = ServerSettings.keepAliveSeconds(keepAlive) ?? 300
    settings.loadedModels = loadedModels
    settings.cacheBytes = kv.kvRam?.count
    settings.bodyLimit = maxBody.count
    settings.registry = registry
    if let apiKeyFile {
      guard FileManager.default.fileExists(atPath: apiKeyFile) else {
        throw ValidationError("--api-key-file \(apiKeyFile) is not there")
      }
      let line = try TextFile.read(apiKeyFile).split(whereSeparator: \.isNewline).first
      guard let key = line.map({ $0.trimmingCharacters(in: .whitespaces) }), key.count >= 8 else {
        throw ValidationError(
          "--api-key-file \(apiKeyFile) begins with no key; its first line must have 8 characters or more"
        )
      }
      settings.apiKey = key
    }
    return settings
  }

  private func catalog() throws -> ModelCatalog {
    let home = NSHomeDirectory()
    let own = ModelStore(root: store ?? home + "/.infinitehip/models", isWritable: true)
    let environment = ProcessInfo.processInfo.environment["OLLAMA_MODELS"]
    let usual = [home + "/.ollama/models", "/usr/share/ollama/.ollama/models"]
    let others =
      (ollamaStore ?? environment).map { [$0] }
      ?? usual.filter { FileManager.default.fileExists(atPath: $0) }
    let named = ModelCatalog(
      own: own, stores: others.map { ModelStore(root: $0, isWritable: false) }, folders: models)
    // --model is a path, or the name of a model in one of the places above.
    if let model = options.model, !FileManager.default.fileExists(atPath: model) {
      guard let stored = named.model(named: model) else {
        throw ValidationError(
          "--model \(model) is neither a file or folder nor the name of a model")
      }
      return ModelCatalog(
        own: own, stores: named.stores, folders: models, preferred: stored.name)
    }
    // Without the source, and its demo model, there are those of the stores.
    let path = options.model ?? (try? BundledFile.demoModel.path())
    return ModelCatalog(
      own: own, stores: named.stores, folders: models, files: path.map { [$0] } ?? [])
  }
}
