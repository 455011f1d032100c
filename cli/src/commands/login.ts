import type { Command } from "commander";
import { Option } from "commander";
import { RoleSchema } from "@coppice/proto/gen/coppice/control/v1/token";
import { fail, Failure, isFailure } from "@coppice/proto/kit/failure";
import { addCommand, type Execute } from "../command.ts";
import { ask } from "../input/ask.ts";
import { readSecretFromStdin } from "../input/read-stdin.ts";
import { enumLabel } from "../output/enum-label.ts";
import { readProfileFile, writeProfileFile } from "../profile/profile-file.ts";
import { parseAddress, parseFingerprint } from "../profile/target.ts";
import type { Session } from "../session.ts";

interface LoginOptions {
  readonly caFingerprint?: string;
  readonly name?: string;
}

/** `coppice login` */
export function addLoginCommand(program: Command, execute: Execute): void {
  addCommand<LoginOptions>(program, execute, {
    name: "login",
    summary: "log in to a control plane and keep its address, authority and token as a context",
    arguments: [["<address>", "HOST:PORT of the control plane"]],
    options: [
      new Option(
        "--ca-fingerprint <sha256>",
        "fingerprint of the control plane's authority, as it prints it at its start; without it you are asked",
      ),
      new Option("--name <context>", "name of the context").default("default"),
    ],
    examples: [
      "coppice login backup.example.org:7443",
      "coppice login 127.0.0.1:7443 --ca-fingerprint sha256:… < token-file",
    ],
    run: logIn,
  });
}

async function logIn(session: Session, options: LoginOptions, addressText: string): Promise<void> {
  const { terminal, signal, folder } = session;
  const { name = "default" } = options;
  if (!/^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/.test(name)) {
    fail("INVALID_FIELD", `${name} is not a name for a context`, { hint: "use lower-case letters, digits, - and ." });
  }
  const address = parseAddress(addressText);
  const given = options.caFingerprint || terminal.env.COPPICE_CA_FINGERPRINT;
  if (!given && !terminal.stdinIsTty) {
    fail("INVALID_FIELD", "--ca-fingerprint is missing, and there is no terminal to ask at", {
      hint: "give the fingerprint that the control plane prints when it starts",
    });
  }
  const expected = given ? parseFingerprint(given) : undefined;
  const { fetchPresentedRoot, keepRoot } = await import("../client/trusted-root.ts");
  const root = await fetchPresentedRoot(address, signal).catch((error: unknown) => refuseAddress(error));
  if (expected !== undefined && root.fingerprint !== expected) {
    fail("CERTIFICATE_UNTRUSTED", `${address} presents the authority ${root.fingerprint}, expected ${expected}`);
  }
  if (expected === undefined) {
    terminal.err(`${address} presents the authority\n  ${root.fingerprint}\n`);
    const answer = await ask(session, "  is this what the control plane prints at its start? (yes/no) ");
    if (!/^y(es)?$/i.test(answer.trim())) {
      fail("CERTIFICATE_UNTRUSTED", "the authority was not confirmed, nothing was changed");
    }
  }
  const token = await readToken(session);
  const { openApi } = await import("../client/api.ts");
  // From here on the certificate must come from that root and name the address, else the token does not leave.
  using api = openApi({ address, token }, root.pem, signal);
  const current = await api.tokens.getCurrentToken({}).catch((error: unknown) => refuseToken(api.failureOf(error)));
  await keepRoot(folder, root);
  const file = await readProfileFile(folder);
  const profile = { address, caFingerprint: root.fingerprint, token };
  await writeProfileFile(folder, { contexts: { ...file.contexts, [name]: profile }, current: name });
  const role = enumLabel(RoleSchema, current.role);
  await session.answer({
    json: () => ({ context: name, address, caFingerprint: root.fingerprint, token: current.name, role }),
    table: () =>
      session.success(`logged in to ${address} as ${current.name} (${role}), context ${name}`, {
        next: "coppice status",
      }),
    names: () => [name],
  });
}

/** Here the address is what was just given: no context has it, and more time would not help. */
function refuseAddress(error: unknown): never {
  if (!isFailure(error, "CONTROL_PLANE_UNREACHABLE") && !isFailure(error, "DEADLINE_EXCEEDED")) throw error;
  throw new Failure(error.reason, error.message, {
    hint: "check host and port: the control plane prints its address when it starts; and that nothing on the way blocks it",
    cause: error,
  });
}

/** Here the token is what was just given, and logging in again with it would not help. */
function refuseToken(failure: Failure): never {
  if (failure.code !== "unauthenticated") return refuseAddress(failure);
  throw new Failure(failure.reason, `the control plane refuses that token: ${failure.message}`, {
    hint: "have one made by `coppice token create`, or on the control plane's machine by `coppice-control token create --name NAME --role admin`",
    cause: failure,
  });
}

async function readToken(session: Session): Promise<string> {
  const { terminal, signal } = session;
  if (terminal.env.COPPICE_TOKEN) return terminal.env.COPPICE_TOKEN.trim();
  const token = terminal.stdinIsTty
    ? await ask(session, "token: ", { hidden: true })
    : await readSecretFromStdin(terminal.stdin, "token", signal);
  return /^[\x21-\x7E]+$/.test(token.trim()) ? token.trim() : fail("INVALID_FIELD", "that is not a token");
}
