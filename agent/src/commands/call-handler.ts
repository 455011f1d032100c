import type { Command, Result } from "@coppice/proto/gen/coppice/agent/v1/command";
import { fail } from "@coppice/proto/kit/failure";
import type { CommandCase, CommandContext, Handler, Handlers, Outcome, Specs } from "./handler.ts";

/** What a handler of any kind has come to. */
export type AnyOutcome = Omit<Outcome<never>, "result"> & { readonly result?: Result["result"] | undefined };

/** Calls the handler of the command's kind; fails with CAPABILITY_MISSING when this version knows no such kind. */
export async function callHandler(handlers: Handlers, command: Command, context: CommandContext): Promise<AnyOutcome> {
  const { spec } = command;
  if (spec.case === undefined) fail("CAPABILITY_MISSING", "this agent does not know that kind of command");
  return await callCase(handlers, spec, context);
}

async function callCase<C extends CommandCase>(
  handlers: { readonly [K in C]: Handler<K> },
  spec: { [K in C]: { case: K; value: Specs[K] } }[C],
  context: CommandContext,
): Promise<AnyOutcome> {
  const { result: value, failure } = await handlers[spec.case](spec.value, context);
  // A handler's result has the case of its command: Handler says so, but a union of cases does not remember it.
  return { failure, result: value && ({ case: spec.case, value } as Result["result"]) };
}

/** The value of a secret that came with the command; undefined for the empty reference, SECRET_UNREADABLE without one. */
export function openSecret(command: Command, id: string): string | undefined {
  if (id === "") return undefined;
  const secret = command.secrets.find((secret) => secret.id === id);
  return secret?.value ?? fail("SECRET_UNREADABLE", `the command came without the secret ${id}`);
}
