import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { create, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { type DesiredState, DesiredStateSchema } from "@coppice/proto/gen/coppice/agent/v1/desired_state";
import { fail } from "@coppice/proto/kit/failure";
import { replaceFile } from "../journal/durable-file.ts";

/** Values of secrets by their ids. */
export type Secrets = ReadonlyMap<string, string>;

/** What an agent holds of what it is to keep true. */
export interface HeldState {
  /** Without secrets. */
  readonly state: DesiredState;
  readonly secrets: Secrets;
}

const stateFile = "desired.json";
const secretsFile = "secrets.json";

/** What is held in the folder; revision 0 when nothing is. Fails with JOURNAL_DAMAGED. */
export async function readDesired(folder: string): Promise<HeldState> {
  const json = await readJson(join(folder, stateFile));
  const values = await readJson(join(folder, secretsFile));
  try {
    const state = json === undefined ? create(DesiredStateSchema) : fromJson(DesiredStateSchema, json);
    const secrets = new Map(Object.entries((values ?? {}) as Record<string, string>));
    return { state, secrets };
  } catch {
    // The parser's own words could hold a value.
    return fail("JOURNAL_DAMAGED", `${join(folder, stateFile)} or ${secretsFile} beside it cannot be read`);
  }
}

/** Stores a revision; the secrets first, in a file of their own (0600), so that a state that is held can be carried out. */
export async function writeDesired(folder: string, { state, secrets }: HeldState): Promise<void> {
  await replaceFile(join(folder, secretsFile), `${JSON.stringify(Object.fromEntries(secrets))}\n`);
  await replaceFile(join(folder, stateFile), `${JSON.stringify(toJson(DesiredStateSchema, state), null, 2)}\n`);
}

async function readJson(path: string): Promise<JsonValue | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return fail("JOURNAL_DAMAGED", `${path} is not JSON`);
  }
}
