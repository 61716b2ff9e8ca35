// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HTTPTypes
public import HiPModelStore
public import InfiniteHiP
internal import Logging

/// The models that are loaded: brings them in by name, and lets go of those that nobody has used for a while.
actor ModelHost {
  nonisolated let catalog: ModelCatalog
  private let settings: ServerSettings
  private let logger: Logger
  private let load: ModelLoader
  private var entries: [String: Entry] = [:]
  /// Cards of models, by digest: reading a file's metadata takes its time.
  private var cards: [String: ModelCard] = [:]

  private struct Entry {
    let stored: StoredModel
    let loading: Task<ServedModel, any Error>
    var model: ServedModel?
    var users = 0
    var keepAlive: KeepAlive
    var lastUse = Date()

    var expires: Date {
      switch keepAlive {
      case .forever: .distantFuture
      case .seconds(let seconds): lastUse.addingTimeInterval(seconds)
      }
    }
  }

  init(
    _ catalog: ModelCatalog, _ settings: ServerSettings, _ logger: Logger,
    load: @escaping ModelLoader
  ) {
    self.catalog = catalog
    self.settings = settings
    self.logger = logger
    self.load = load
  }

  /// The model that a request names.
  nonisolated func find(_ name: String) throws(ServerError) -> StoredModel {
    guard let stored = catalog.model(named: name) else { throw .noModel(name) }
    return stored
  }

  /// What can be told of a model without loading it.
  func card(_ stored: StoredModel) throws -> ModelCard {
    if let card = cards[stored.digest.hex] { return card }
    let card = try ModelCard(stored)
    cards[stored.digest.hex] = card
    return card
  }

  /// Serves a request with a model, which stays loaded meanwhile.
  func use<Result: Sendable>(
    _ stored: StoredModel, keepAlive: KeepAlive?,
    _ body: @Sendable (ServedModel) async throws -> Result
  ) async throws -> Result {
    let model = try await open(stored, keepAlive: keepAlive)
    defer { close(stored) }
    return try await body(model)
  }

  /// Loads a model, or finds it loaded, and counts a user until `close`.
  private func open(_ stored: StoredModel, keepAlive: KeepAlive?) async throws -> ServedModel {
    let key = stored.digest.hex
    if entries[key] == nil {
      try makeRoom(for: stored)
      logger.info("loading", metadata: ["model": "\(stored.name)"])
      let (load, settings, started) = (load, settings, ContinuousClock.now)
      let task = Task.detached {
        try await ServedModel(stored, try await load(stored, settings), loadTime: .now - started)
      }
      entries[key] = Entry(
        stored: stored, loading: task,
        keepAlive: keepAlive ?? KeepAlive(seconds: settings.keepAliveSeconds))
    }
    guard let loading = entries[key]?.loading else { throw ServerError.noModel("\(stored.name)") }
    entries[key]?.users += 1
    do {
      let model = try await loading.value
      entries[key]?.model = model
      entries[key]?.lastUse = Date()
      if let keepAlive { entries[key]?.keepAlive = keepAlive }
      return model
    } catch {
      // Another load may have begun meanwhile.
      if entries[key]?.loading == loading { entries[key] = nil }
      throw error
    }
  }

  /// Ends what `open` began.
  private func close(_ stored: StoredModel) {
    let key = stored.digest.hex
    entries[key]?.users -= 1
    entries[key]?.lastUse = Date()
    if entries[key]?.keepAlive == .seconds(0) { sweep() }
  }

  /// Lets a model go as soon as nobody uses it.
  func unload(_ stored: StoredModel) {
    entries[stored.digest.hex]?.keepAlive = .seconds(0)
    sweep()
  }

  /// Lets go of the models whose time has come.
  func sweep() {
    let now = Date()
    for (key, entry) in entries where entry.users == 0 && entry.expires <= now {
      logger.info("unloading", metadata: ["model": "\(entry.stored.name)"])
      entries[key] = nil
    }
  }

  /// Of those that nobody uses, the ones that were used longest ago make room: as many may be loaded as is set, and
  /// weights take half of the memory where they can.
  private func makeRoom(for stored: StoredModel) throws(ServerError) {
    func weights() -> Int {
      entries.values.reduce(min(stored.byteCount, 1 << 50)) {
        $0 + ($1.model?.model.weightByteCount ?? 0)
      }
    }
    while !entries.isEmpty {
      let isFull = entries.count >= settings.loadedModels
      guard isFull || weights() > MachineMemory.physicalByteCount / 2 else { return }
      let idle = entries.filter { $0.value.users == 0 }
      guard let oldest = idle.min(by: { $0.value.lastUse < $1.value.lastUse }) else {
        guard isFull else { return }
        throw ServerError(
          .serviceUnavailable,
          "\(stored.name) cannot be loaded: \(entries.count) models are in use, as many as may be loaded",
          code: "models_busy")
      }
      logger.info("unloading", metadata: ["model": "\(oldest.value.stored.name)"])
      entries[oldest.key] = nil
    }
  }

  /// The models that are loaded, and until when; those that stay longest first.
  func loaded() -> [(model: ServedModel, expires: Date)] {
    entries.values.compactMap { entry in entry.model.map { ($0, entry.expires) } }
      .sorted { $0.1 > $1.1 }
  }
}

/// Loads a model as a server's settings have it.
public typealias ModelLoader = @Sendable (StoredModel, ServerSettings) async throws -> LanguageModel
