import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { create, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { type DesiredState, DesiredStateSchema } from "@coppice/proto/gen/coppice/agent/v1/desired_state";
import { WalArchiveSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { fail } from "@coppice/proto/kit/failure";
import { replaceFile } from "../journal/durable-file.ts";
import { stillLeft, type Withdrawal } from "./left-over.ts";

/** Values of secrets by their ids. */
export type Secrets = ReadonlyMap<string, string>;

/** What an agent holds of what it is to keep true. */
export interface HeldState {
  /** Without secrets. */
  readonly state: DesiredState;
  /** Also those of what is withdrawn. */
  readonly secrets: Secrets;
  readonly withdrawals: readonly Withdrawal[];
}

const stateFile = "desired.json";
const secretsFile = "secrets.json";
const withdrawalsFile = "withdrawals.json";

/** What is held in the folder; revision 0 when nothing is. Fails with JOURNAL_DAMAGED. */
export async function readDesired(folder: string): Promise<HeldState> {
  const json = await readJson(join(folder, stateFile));
  const values = await readJson(join(folder, secretsFile));
  const left = await readJson(join(folder, withdrawalsFile));
  try {
    const state = json === undefined ? create(DesiredStateSchema) : fromJson(DesiredStateSchema, json);
    const secrets = new Map(Object.entries((values ?? {}) as Record<string, string>));
    const withdrawals = (Array.isArray(left) ? left : []).map(toWithdrawal);
    // Without the revision that was to end it, it has not ended.
    return { state, secrets, withdrawals: stillLeft(withdrawals, state) };
  } catch {
    // The parser's own words could hold a value.
    const files = [secretsFile, withdrawalsFile].join(" or ");
    return fail("JOURNAL_DAMAGED", `${join(folder, stateFile)}, or ${files} beside it, cannot be read`);
  }
}

/**
 * Stores a revision; the secrets first, in a file of their own (0600), so that a state that is held can be carried out, and
 * what has to be withdrawn before what ends it, so that it is never forgotten.
 */
export async function writeDesired(folder: string, { state, secrets, withdrawals }: HeldState): Promise<void> {
  await replaceFile(join(folder, secretsFile), `${JSON.stringify(Object.fromEntries(secrets))}\n`);
  await writeWithdrawals(folder, withdrawals);
  await replaceFile(join(folder, stateFile), `${JSON.stringify(toJson(DesiredStateSchema, state), null, 2)}\n`);
}

function toWithdrawal(row: JsonValue): Withdrawal {
  const { id, revision, archive = null, isHandedOver, isSucceeded } = row as Record<string, JsonValue>;
  if (typeof id !== "string" || typeof revision !== "string")
    return fail("JOURNAL_DAMAGED", "what is withdrawn is not named");
  return {
    id,
    revision: BigInt(revision),
    archive: fromJson(WalArchiveSchema, archive),
    isHandedOver: isHandedOver === true,
    isSucceeded: isSucceeded === true,
  };
}

async function writeWithdrawals(folder: string, withdrawals: readonly Withdrawal[]): Promise<void> {
  const json = withdrawals.map(({ revision, archive, ...one }) => ({
    ...one,
    revision: String(revision),
    archive: toJson(WalArchiveSchema, archive),
  }));
  await replaceFile(join(folder, withdrawalsFile), `${JSON.stringify(json, null, 2)}\n`);
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
