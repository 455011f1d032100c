import { chmod, mkdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import { ownAsParent, replaceFile } from "../journal/durable-file.ts";

/** Who the agent is and whom it trusts: what enrolment gave it. */
export interface Identity {
  /** hst_… */
  readonly hostId: string;
  readonly hostName: string;
  /** `https://host:port`, tried in turn. */
  readonly addresses: readonly string[];
  /** PEM, leaf first. */
  readonly certificateChainPem: string;
  readonly privateKeyPem: string;
  /** PEM, one each. */
  readonly trustedRootsPem: readonly string[];
}

const texts = ["hostId", "hostName", "certificateChainPem", "privateKeyPem"] as const;
const lists = ["addresses", "trustedRootsPem"] as const;

/** The one file that holds it all, so that key and certificate never come apart. */
export function identityFile(dataDirectory: string): string {
  return join(dataDirectory, "identity.json");
}

/** Reads the enrolment; fails with NOT_ENROLLED or DATA_FOLDER_UNUSABLE. */
export async function readIdentity(dataDirectory: string): Promise<Identity> {
  const path = identityFile(dataDirectory);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const code = errorCode(error);
    if (code === "ENOENT") fail("NOT_ENROLLED", `there is no enrolment in ${dataDirectory}`);
    return fail("DATA_FOLDER_UNUSABLE", `the enrolment ${path} cannot be read: ${code}`, { cause: error });
  }
  return checkIdentity(text) ?? fail("DATA_FOLDER_UNUSABLE", `the file ${path} holds no enrolment`);
}

/** Whether the folder holds an enrolment, readable or not. */
export async function hasIdentity(dataDirectory: string): Promise<boolean> {
  try {
    await stat(identityFile(dataDirectory));
    return true;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return false;
    return fail("DATA_FOLDER_UNUSABLE", `the folder ${dataDirectory} cannot be read: ${errorCode(error)}`, {
      cause: error,
    });
  }
}

/** Stores the enrolment, 0600 and durable, in the place of an older one. */
export async function writeIdentity(dataDirectory: string, identity: Identity): Promise<void> {
  await replaceFile(identityFile(dataDirectory), `${JSON.stringify(identity, undefined, 2)}\n`);
}

/** Makes the data folder when it is missing and sees that it can be used, before anything is asked of the control plane. */
export async function prepareDataDirectory(dataDirectory: string): Promise<void> {
  try {
    const isMissing = (await mkdir(dataDirectory, { recursive: true, mode: 0o750 })) !== undefined;
    if (isMissing) {
      // For an agent of root, PostgreSQL's programs pass through it as the server's user. The umask is not asked.
      await chmod(dataDirectory, process.getuid?.() === 0 ? 0o711 : 0o750);
      await ownAsParent(dataDirectory);
    }
    const probe = join(dataDirectory, "enrolment-probe");
    await replaceFile(probe, "");
    await rm(probe);
  } catch (error) {
    fail("DATA_FOLDER_UNUSABLE", `the folder ${dataDirectory} cannot be used: ${errorCode(error)}`, { cause: error });
  }
}

function checkIdentity(text: string): Identity | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's message may repeat the key.
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const fields: Partial<Record<string, unknown>> = { ...value };
  const isWhole =
    texts.every((name) => typeof fields[name] === "string" && fields[name] !== "") &&
    lists.every((name) => isTextList(fields[name]));
  return isWhole ? (value as Identity) : undefined;
}

function isTextList(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === "string" && item !== "");
}

function errorCode(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}
