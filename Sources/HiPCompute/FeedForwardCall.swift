// SPDX-License-Identifier: Apache-2.0

/// The gated feed-forward block of a layer: output = scale * down · (activation(gate · x) * (up · x)).
public struct FeedForwardCall {
  /// `[rows, n]`, float32.
  public let input: DeviceTensor
  /// What the input is multiplied with.
  public let weights: Weights
  /// What the gate is passed through.
  public let activation: GateActivation
  /// Where products go on the way.
  public let workspace: Workspace
  /// `[rows, n]`, float32; another one than the input.
  public let output: DeviceTensor
  /// What happens to what the output holds.
  public let update: MatmulCall.Update
  /// What the products are multiplied by.
  public let scale: Float
  /// Last rows that are single tokens of different sequences, as `MatmulCall` has it.
  public let decodeRows: Int

  /// Stores the arguments, which must fit together.
  public init(
    input: DeviceTensor, weights: Weights, activation: GateActivation, workspace: Workspace,
    output: DeviceTensor, update: MatmulCall.Update, scale: Float = 1, decodeRows: Int
  ) {
    precondition(output.rows == input.rows && output.columns == input.columns)
    precondition(workspace.gate.rows >= input.rows && workspace.up.rows >= input.rows)
    self.input = input
    self.weights = weights
    self.activation = activation
    self.workspace = workspace
    self.output = output
    self.update = update
    self.scale = scale
    self.decodeRows = decodeRows
  }

  /// Gate and up matrices `[m, n]`, the down matrix `[n, m]`, and biases where there are some, `[1, …]`.
  public struct Branch {
    /// The matrices.
    public let gate, up, down: DeviceTensor
    /// Their biases.
    public let gateBias, upBias, downBias: DeviceTensor?

    /// Stores the parts.
    public init(
      gate: DeviceTensor, up: DeviceTensor, down: DeviceTensor, gateBias: DeviceTensor? = nil,
      upBias: DeviceTensor? = nil, downBias: DeviceTensor? = nil
    ) {
      self.gate = gate
      self.up = up
      self.down = down
      self.gateBias = gateBias
      self.upBias = upBias
      self.downBias = downBias
    }
  }

  /// Branches of which each row takes a few.
  public struct Experts {
    /// `[experts, n]`: how much a row is drawn to each.
    public let router: DeviceTensor
    /// `[1, experts]`.
    public let routerBias: DeviceTensor?
    /// The experts.
    public let branches: [Branch]
    /// How a row chooses.
    public let routing: ExpertRouting

    /// Stores the parts, which must fit together.
    public init(
      router: DeviceTensor, routerBias: DeviceTensor?, branches: [Branch], routing: ExpertRouting
    ) {
      precondition(router.rows == branches.count && routing.used <= branches.count)
      self.router = router
      self.routerBias = routerBias
      self.branches = branches
      self.routing = routing
    }
  }

  /// What the input is multiplied with.
  public enum Weights {
    case dense(Branch)
    case experts(Experts)
  }

  /// Memory for products, at least as many rows as the input has.
  public struct Workspace {
    /// `[rows, m]`.
    public let gate, up: DeviceTensor
    /// What experts need besides; nil where there are none.
    public let experts: ExpertWorkspace?

    /// Stores the parts.
    public init(gate: DeviceTensor, up: DeviceTensor, experts: ExpertWorkspace? = nil) {
      self.gate = gate
      self.up = up
      self.experts = experts
    }
  }

  /// Memory for the rows that one expert takes.
  public struct ExpertWorkspace {
    /// `[rows, experts]`.
    public let router: DeviceTensor
    /// `[rows, n]`: what goes in, and what comes out.
    public let gathered, products: DeviceTensor

    /// Stores the parts.
    public init(router: DeviceTensor, gathered: DeviceTensor, products: DeviceTensor) {
      self.router = router
      self.gathered = gathered
      self.products = products
    }
  }
}

/// What the gate of a feed-forward block is passed through.
public enum GateActivation: Sendable, Hashable, CaseIterable {
  /// x sigmoid(x), as in SwiGLU (arXiv 2002.05202).
  case silu
  /// GELU by its tanh form, as in GeGLU.
  case geluTanh
  /// g sigmoid(1.702 g) (1 + u) with g = min(gate, 7) and u = up within -7 to 7 (gpt-oss).
  case clampedSwiGLU
}

/// How a row chooses among experts.
public struct ExpertRouting: Sendable, Hashable {
  /// Experts that a row takes: those that it is drawn to most, of equal ones the first.
  public let used: Int
  /// Whether the probabilities that their outputs are multiplied by are those among the chosen, and not among
  /// all experts.
  public let isRenormalised: Bool

  /// Stores the parts.
  public init(used: Int, isRenormalised: Bool) {
    self.used = used
    self.isRenormalised = isRenormalised
  }
}
