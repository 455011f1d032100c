import { Failure, fail } from "@coppice/proto/kit/failure";
import type { ProfileFile } from "./profile-file.ts";

/** The control plane to call, and who calls. */
export interface Target {
  /** `https://host:port`. */
  readonly address: string;
  /** `sha256:` and 64 hex digits. */
  readonly caFingerprint: string;
  readonly token: string;
}

/** An address in its full form; `https://` may be left out. Fails with INVALID_FIELD. */
export function parseAddress(text: string): string {
  const full = text.includes("://") ? text : `https://${text}`;
  if (!URL.canParse(full)) fail("INVALID_FIELD", `${text} is not an address`, { hint: "write it as HOST:PORT" });
  const url = new URL(full);
  if (url.protocol !== "https:" || url.username || url.pathname !== "/" || url.search || url.hash) {
    fail("INVALID_FIELD", `${text} is not an address of a control plane`, {
      hint: "write it as HOST:PORT or https://HOST:PORT; a control plane speaks only TLS",
    });
  }
  return url.origin;
}

/** A fingerprint in its one form; `sha256:` and the colons between bytes may be left out. Fails with INVALID_FIELD. */
export function parseFingerprint(text: string): string {
  const digits = text
    .trim()
    .toLowerCase()
    .replace(/^sha-?256[:=]/, "")
    .replaceAll(":", "");
  if (!/^[0-9a-f]{64}$/.test(digits)) {
    fail("INVALID_FIELD", `${text} is not a SHA-256 fingerprint`, {
      hint: "give the one that the control plane prints when it starts: sha256:… with 64 hex digits",
    });
  }
  return `sha256:${digits}`;
}

/**
 * The control plane to call: the context named by `--context` or COPPICE_CONTEXT, else the current one; COPPICE_ADDRESS,
 * COPPICE_TOKEN and COPPICE_CA_FINGERPRINT win over its parts. Fails with UNAUTHENTICATED when something is missing.
 */
export function resolveTarget(
  file: ProfileFile,
  env: Readonly<Record<string, string | undefined>>,
  contextOption: string | undefined,
): Target {
  const named = contextOption || env.COPPICE_CONTEXT;
  const name = named || file.current;
  const profile = name !== undefined && Object.hasOwn(file.contexts, name) ? file.contexts[name] : undefined;
  if (named && !profile) {
    fail("INVALID_FIELD", `there is no context ${named}`, { hint: "list the contexts with `coppice context list`" });
  }
  const address = env.COPPICE_ADDRESS || profile?.address;
  const token = env.COPPICE_TOKEN || profile?.token;
  const caFingerprint = env.COPPICE_CA_FINGERPRINT || profile?.caFingerprint;
  const missing = (what: string, variable: string) =>
    new Failure("UNAUTHENTICATED", what, { hint: `log in with \`coppice login HOST:PORT\`, or set ${variable}` });
  if (!address) throw missing("no control plane is known: nobody has logged in here", "COPPICE_ADDRESS");
  if (!caFingerprint) throw missing(`the authority of ${address} is not known`, "COPPICE_CA_FINGERPRINT");
  if (!token) throw missing(`there is no token for ${address}`, "COPPICE_TOKEN");
  return {
    address: parseAddress(address),
    caFingerprint: parseFingerprint(caFingerprint),
    token: token.trim(),
  };
}
