import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { BackupAddressSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { ResultSchema } from "@coppice/proto/gen/coppice/agent/v1/command";
import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { ConnectionSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { RestoreDecision } from "@coppice/proto/gen/coppice/common/v1/held_database";
import { OperationSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { expect, test } from "vitest";
import { kinds } from "./registry.ts";

type Part = Extract<NonNullable<MessageInitShape<typeof OperationSchema>["spec"]>, { case: "recoverPart" }>["value"];

const part = (changes: Omit<Part, "$typeName">) => {
  const value = {
    restore: { chain: ["bkp_a"], repository: "rep_a", dataDirectory: "/s/data", start: true },
    scratch: "/s",
    database: "orders",
    ...changes,
  };
  const { spec } = create(OperationSchema, { spec: { case: "recoverPart", value } });
  if (spec.case === undefined) throw new Error("a spec has a case");
  return spec;
};
const answer = (value: object) => create(ResultSchema, { result: { case: "recoverPart", value } }).result;
const connectionOf = (secret: string) => ({
  name: "shop",
  systemIdentifier: "1",
  isAlone: true,
  connection: create(ConnectionSchema, { passwordSecret: secret }),
});
const chain = [{ address: create(BackupAddressSchema, { backupId: "bkp_a" }), keys: [] }];

test("a part that is loaded needs the chain, its target and the live cluster, and each comes with its own password", () => {
  const spec = part({ targetCluster: "cls_b", targetDatabase: "then", replace: true, liveCluster: "cls_a", jobs: 2 });
  expect(kinds.recoverPart.references(spec)).toMatchObject({
    clusterId: "cls_b",
    liveClusterId: "cls_a",
    chain: [{ backupId: "bkp_a", repositoryId: "rep_a" }],
    decrypts: true,
  });
  const facts = { chain, cluster: connectionOf("sec_b"), live: connectionOf("sec_a") };
  expect(kinds.recoverPart.plan(spec, facts).value).toMatchObject({
    scratch: "/s",
    load: {
      file: { path: "/s/part.dump" },
      mode: RestoreMode.HOLD,
      connection: { passwordSecret: "sec_b" },
      jobs: 2,
    },
    live: { passwordSecret: "sec_a" },
    restore: { dataDirectory: "/s/data" },
  });
});

test("a part that becomes a file goes into no cluster, and is believed only with that file", () => {
  const spec = part({ file: "/x.dump" });
  expect(kinds.recoverPart.references(spec)).not.toHaveProperty("clusterId");
  expect(kinds.recoverPart.plan(spec, { chain }).value).toMatchObject({ file: { path: "/x.dump" } });
  const told = { file: { path: "/x.dump" }, fileBytes: 7n, recovered: { endLsn: "0/9", bytesRead: 5n }, tables: 3 };
  const applied = kinds.recoverPart.apply(spec, { result: answer(told) });
  expect(applied.result).toMatchObject({ case: "recoveredPart", value: { file: "/x.dump", endLsn: "0/9", tables: 3 } });
  const other = kinds.recoverPart.apply(spec, { result: answer({ ...told, file: { path: "/y.dump" } }) });
  expect(other.failure?.reason).toBe("AGENT_ANSWER_INVALID");
});

test("what would replace a database is believed only as left beside it, under the name that was given", () => {
  const spec = part({
    targetCluster: "cls_a",
    targetDatabase: "orders",
    stagedDatabase: "coppice_restore_1",
    replace: true,
  });
  const held = { name: "coppice_restore_1", oid: 7, replacesOid: 5, connectionLimit: -1 };
  const left = { recovered: { endLsn: "0/9" }, loaded: { database: "coppice_restore_1", held } };
  expect(kinds.recoverPart.apply(spec, { result: answer(left) }).result).toMatchObject({
    case: "recoveredPart",
    value: { database: "coppice_restore_1", held, keptAs: "" },
  });
  // Nothing was there to be replaced.
  const placed = { loaded: { database: "orders" } };
  expect(kinds.recoverPart.apply(spec, { result: answer(placed) }).result).toMatchObject({
    value: { database: "orders" },
  });
  const swapped = { loaded: { database: "orders", keptAs: "orders_before" } };
  expect(kinds.recoverPart.apply(spec, { result: answer(swapped) }).failure?.reason).toBe("AGENT_ANSWER_INVALID");
  const other = { loaded: { database: "x", held: { ...held, name: "coppice_restore_2" } } };
  expect(kinds.recoverPart.apply(spec, { result: answer(other) }).failure?.reason).toBe("AGENT_ANSWER_INVALID");
});

test("a decision names the very databases, and an answer to the other one is not believed", () => {
  const held = { name: "coppice_restore_1", oid: 7, replacesOid: 5, connectionLimit: -1 };
  const value = { targetCluster: "cls_a", targetDatabase: "orders", keptDatabase: "kept", held };
  const { spec } = create(OperationSchema, {
    spec: { case: "decideRestore", value: { ...value, decision: RestoreDecision.DROP } },
  });
  if (spec.case === undefined) throw new Error("a spec has a case");
  const command = kinds.decideRestore.plan(spec, { cluster: connectionOf("sec_a") });
  expect(command.value).toMatchObject({ held, targetDatabase: "orders", decision: RestoreDecision.DROP });
  const said = (decision: RestoreDecision) =>
    create(ResultSchema, { result: { case: "decideRestore", value: { decision } } }).result;
  const { apply } = kinds.decideRestore;
  expect(apply(spec, { result: said(RestoreDecision.SWAP) }).failure?.reason).toBe("AGENT_ANSWER_INVALID");
  expect(apply(spec, { result: said(RestoreDecision.DROP) }).result).toMatchObject({
    value: { decision: RestoreDecision.DROP, database: "coppice_restore_1", keptAs: "" },
  });
});
