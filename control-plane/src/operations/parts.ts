import type { KeyObject } from "node:crypto";
import type { Logger } from "pino";
import type { Catalog } from "../catalog/catalog.ts";
import type { Notices } from "../catalog/notices.ts";

/** What operations are carried out with. */
export interface OperationParts {
  readonly catalog: Catalog;
  /** Of the channel coppice_agent. */
  readonly agentNotices: Notices;
  /** Opens the passwords that commands carry. */
  readonly masterKey: KeyObject;
  readonly log: Logger;
  /** Pause after which work is looked for without a notice. */
  readonly pollMs: number;
}
