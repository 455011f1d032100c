import type { DecideRestoreCommand } from "@coppice/proto/gen/coppice/agent/v1/decide_restore";
import { type Decision, decideRestore } from "../logical/decide.ts";
import type { CommandContext, Handler } from "./handler.ts";
import { required } from "./required.ts";

/** Puts a database that a restore has left beside into place, or drops it. */
export const decideRestoreCommand: Handler<"decideRestore"> = async (command, context) => ({
  result: await decideRestore({ ...decisionOf(command, context), log: context.log }),
});

/** What a decision is carried out and settled with, its password opened. */
export function decisionOf(command: DecideRestoreCommand, { secret, clientFiles, signal }: CommandContext): Decision {
  const password = secret(required(command.connection, "connection").passwordSecret);
  return { command, password, files: clientFiles, signal };
}
