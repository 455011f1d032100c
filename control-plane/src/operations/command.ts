import { create, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import {
  type Command,
  CommandSchema,
  type SecretValue,
  SecretValueSchema,
} from "@coppice/proto/gen/coppice/agent/v1/command";
import { FenceSchema } from "@coppice/proto/gen/coppice/common/v1/fence";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import { redactMessage } from "@coppice/proto/kit/log";
import type { KeyObject } from "node:crypto";
import type { Database } from "../catalog/catalog.ts";
import type { FenceValue } from "../catalog/operations/row.ts";
import { findSecret } from "../catalog/secret.ts";
import { openSealed } from "../secrets/seal.ts";
import type { CommandSpec, Facts } from "./kinds/kind.ts";

/** A command for the next attempt of an operation, its secrets opened. Errors: SECRET_UNREADABLE. */
export async function buildCommand(
  db: Database,
  masterKey: KeyObject,
  command: {
    readonly operationId: string;
    readonly attempt: number;
    readonly fence: FenceValue;
    readonly spec: CommandSpec;
    readonly facts: Facts;
  },
): Promise<Command> {
  const { operationId, attempt, fence, spec, facts } = command;
  const secrets = await openSecrets(db, masterKey, facts);
  return create(CommandSchema, {
    commandId: newId("cmd"),
    operationId,
    attempt,
    fence: create(FenceSchema, fence),
    spec,
    secrets,
  });
}

/** The secrets that what was looked up refers to, opened. Errors: SECRET_UNREADABLE. */
export async function openSecrets(db: Database, masterKey: KeyObject, facts: Facts): Promise<SecretValue[]> {
  const secrets: SecretValue[] = [];
  for (const id of secretIds(facts)) {
    secrets.push(create(SecretValueSchema, { id, value: await openSecret(db, masterKey, id) }));
  }
  return secrets;
}

/** Every secret that the command refers to. */
function secretIds({ cluster, live, repository, backup, chain = [], walRepository, ownSecret }: Facts): Set<string> {
  const copies = [backup, ...chain].map((one) => one?.address.repository);
  const targets = [repository, walRepository, ...copies];
  const ids = [
    cluster?.connection.passwordSecret,
    live?.connection.passwordSecret,
    ownSecret,
    ...targets.flatMap((target) => [
      target?.secrets?.write,
      target?.secrets?.read,
      target?.secrets?.delete,
      target?.identitySecret,
    ]),
  ];
  return new Set(ids.flatMap((id) => id || []));
}

/** The command as the catalog keeps it: without its secrets. */
export function commandToJson(command: Command): JsonValue {
  return toJson(CommandSchema, redactMessage(CommandSchema, command));
}

/** The command that the catalog keeps. */
export function parseCommand(json: JsonValue): Command {
  return fromJson(CommandSchema, json, { ignoreUnknownFields: true });
}

async function openSecret(db: Database, masterKey: KeyObject, id: string): Promise<string> {
  const sealed = await findSecret(db, id);
  if (sealed === undefined) return fail("SECRET_UNREADABLE", `the secret ${id} is no longer in the catalog`);
  return openSealed(masterKey, id, sealed).toString("utf8");
}
