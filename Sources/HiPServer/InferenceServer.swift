// SPDX-License-Identifier: Apache-2.0

public import HiPModelStore
internal import Hummingbird
public import Logging
internal import NIOCore
internal import ServiceLifecycle
internal import UnixSignals

/// A server that speaks the Ollama API, the OpenAI API, SGLang's `/generate` and parts of llama-server's API, and has
/// a page at `/ui`.
///
/// It ends on SIGTERM and SIGINT: what is under way is told that it ends, and no request is taken any more.
public struct InferenceServer: Sendable {
  private let service: GenerationService
  private let settings: ServerSettings
  private let logger: Logger

  /// A server of the models of a catalog.
  /// - Parameter load: brings a model into memory.
  public init(
    _ catalog: ModelCatalog, _ settings: ServerSettings, _ logger: Logger,
    load: @escaping ModelLoader
  ) {
    self.settings = settings
    self.logger = logger
    let host = ModelHost(catalog, settings, logger, load: load)
    service = GenerationService(host, settings, ServerMetrics(), logger)
  }

  /// Listens until it is told to end.
  /// - Parameter onListening: called with the port once it listens.
  public func run(onListening: @escaping @Sendable (Int) async -> Void) async throws {
    let settings = settings
    let application = Application(
      router: router,
      server: .http1(
        configuration: .init(
          additionalChannelHandlers: [ClientWatch(settings)],
          idleTimeout: .seconds(120),
          httpDecoderConfiguration: .init(
            maxHeaderFieldSize: 16 << 10, maxHeaderListSize: 64 << 10, maxHeaderFieldCount: 100))),
      configuration: ApplicationConfiguration(
        address: .hostname(settings.host, port: settings.port), serverName: "infinitehip"),
      onServerRunning: { channel in await onListening(channel.localAddress?.port ?? settings.port)
      },
      logger: logger)
    // The last is told first: streams end before connections are waited for.
    let group = ServiceGroup(
      configuration: .init(
        services: [.init(service: application), .init(service: Sweeper(service: service))],
        gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
    try await group.run()
  }

  private var router: Router<ServerContext> {
    let routes = Router(context: ServerContext.self)
    addRoutes(to: routes)
    let router = Router(context: ServerContext.self)
    router.middlewares.add(GuardMiddleware(settings: settings))
    router.middlewares.add(
      ErrorMiddleware(
        metrics: service.metrics, routes: routes.routes.map { ($0.path.description, $0.method) }))
    addRoutes(to: router)
    return router
  }

  private func addRoutes(to router: Router<ServerContext>) {
    OllamaGeneration(service: service).add(to: router)
    OllamaModels(service: service).add(to: router)
    OllamaStore(service: service).add(to: router)
    OpenAIGeneration(service: service).add(to: router)
    Embeddings(service: service).add(to: router)
    SGLangGenerate(service: service).add(to: router)
    ServerRoutes(service: service).add(to: router)
    PageRoutes(service: service).add(to: router)
  }
}

/// Lets go of models whose time has come, and ends what is under way when the server ends.
private struct Sweeper: Service {
  let service: GenerationService

  func run() async throws {
    await withGracefulShutdownHandler {
      await cancelWhenGracefulShutdown {
        while (try? await Task.sleep(for: .seconds(1))) != nil { await service.host.sweep() }
      }
    } onGracefulShutdown: {
      service.shutDown()
    }
  }
}
