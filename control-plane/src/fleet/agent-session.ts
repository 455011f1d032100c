import type { SessionResponse } from "@coppice/proto/gen/coppice/agent/v1/session";

/** What the control plane can say to an agent. */
export type AgentInstruction = Exclude<SessionResponse["message"], { case: undefined }>;

/** The live session of a host's agent. */
export interface AgentSession {
  readonly hostId: string;
  readonly hostName: string;
  /** Grows from session to session; what names another one is old. */
  readonly epoch: bigint;
  /** Commands that the agent knows, as generated code names them. */
  readonly capabilities: ReadonlySet<string>;
  readonly agentVersion: string;
  /** Revision of the desired state that the agent had when the session began. */
  readonly desiredRevision: bigint;
  /** Aborted when the session has ended, however. */
  readonly signal: AbortSignal;
  /** Hands a message over, waiting while the agent is slow to read; rejects when the session ends first. */
  send(message: AgentInstruction): Promise<void>;
}
