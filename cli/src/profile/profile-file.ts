import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";

/** How to reach a control plane. */
export interface Profile {
  /** `https://host:port`. */
  readonly address: string;
  /** `sha256:` and 64 hex digits of the control plane's root certificate. */
  readonly caFingerprint: string;
  readonly token: string;
}

/** What config.yaml holds. */
export interface ProfileFile {
  readonly contexts: Readonly<Record<string, Profile>>;
  readonly current: string | undefined;
}

/** The program's folder of settings: XDG_CONFIG_HOME/coppice, or ~/.config/coppice. */
export function profileFolder(env: Readonly<Record<string, string | undefined>>): string {
  return join(env.XDG_CONFIG_HOME || join(env.HOME || homedir(), ".config"), "coppice");
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Reads config.yaml; one that does not exist is empty. Fails with CONFIGURATION_INVALID, naming file and key. */
export async function readProfileFile(folder: string): Promise<ProfileFile> {
  const path = join(folder, "config.yaml");
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return { contexts: {}, current: undefined };
    return fail("CONFIGURATION_INVALID", `${path} cannot be read: ${code}`, { cause: error });
  }
  // By its default: in the bundle a module of CommonJS that is loaded later has no other name.
  const { parse } = (await import("yaml")).default;
  const refuse = (what: string, cause?: unknown) =>
    fail("CONFIGURATION_INVALID", `${path}: ${what}`, {
      hint: "mend the file, or remove it and log in again with `coppice login`",
      cause,
    });
  let content: unknown;
  try {
    content = parse(text);
  } catch (error) {
    // The parser's message quotes the line, which may hold a token.
    return refuse("it is not valid YAML", error);
  }
  if (content === null || content === undefined) return { contexts: {}, current: undefined };
  if (!isRecord(content)) return refuse("expected `contexts` and `current`");
  const contexts: Record<string, Profile> = {};
  for (const [name, value] of Object.entries(isRecord(content.contexts) ? content.contexts : {})) {
    if (!isRecord(value)) return refuse(`contexts.${name}: expected address, caFingerprint and token`);
    const { address, caFingerprint, token } = value;
    if (typeof address !== "string") return refuse(`contexts.${name}.address: expected an address`);
    if (typeof caFingerprint !== "string") return refuse(`contexts.${name}.caFingerprint: expected sha256:…`);
    if (typeof token !== "string") return refuse(`contexts.${name}.token: expected a token`);
    contexts[name] = { address, caFingerprint, token };
  }
  return { contexts, current: typeof content.current === "string" ? content.current : undefined };
}

/** Replaces config.yaml in one step; only its owner may read it. */
export async function writeProfileFile(folder: string, file: ProfileFile): Promise<void> {
  const { stringify } = (await import("yaml")).default;
  await writePrivateFile(join(folder, "config.yaml"), stringify({ contexts: file.contexts, current: file.current }));
}

/** Writes a file of mode 0600 whole or not at all; its folder is made with mode 0700. */
export async function writePrivateFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await using file = await open(temporary, "wx", 0o600);
    await file.writeFile(text);
    await file.sync();
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    fail("CONFIGURATION_INVALID", `${path} cannot be written: ${(error as NodeJS.ErrnoException).code}`, {
      hint: "let your user write that folder, or set XDG_CONFIG_HOME to another",
      cause: error,
    });
  }
}
