import { fail } from "@coppice/proto/kit/failure";
import { printable } from "../output/printable.ts";
import type { Session } from "../session.ts";
import { ask } from "./ask.ts";

/**
 * Lets a person confirm what cannot be undone by typing `name`; `--yes` confirms beforehand. Fails with
 * CONFIRMATION_NEEDED, and nothing has been changed.
 */
export async function confirm(
  session: Session,
  { yes, what, name }: { readonly yes: boolean | undefined; readonly what: string; readonly name: string },
): Promise<void> {
  if (yes) return;
  const { terminal } = session;
  if (!terminal.stdinIsTty) fail("CONFIRMATION_NEEDED", `${what}: this was not confirmed, nothing was changed`);
  terminal.err(`${terminal.paintErr("yellow", "!")} ${printable(what)}\n`);
  const typed = await ask(session, `  type ${printable(name)} to go on: `);
  if (typed.trim() !== printable(name)) fail("CONFIRMATION_NEEDED", "this was not confirmed, nothing was changed");
}
