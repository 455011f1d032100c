import { create } from "@bufbuild/protobuf";
import { VerifyWalCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/verify_wal";
import { VerifiedWalSchema } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import { defineKind, invalidAnswer, required } from "./kind.ts";
import { parseRun } from "./parse-run.ts";
import { reachability } from "./reachability.ts";

/** A verification of archived WAL. It has succeeded when every object was read and everything that is stored is sound. */
export const verifyWal = defineKind({
  spec: "verifyWal",
  command: "verifyWal",
  retriesAfterLoss: 2,
  settle: "repeat",
  mayLeave: undefined,
  isHeavy: true,
  references: ({ repository, content }) => ({ repositoryId: repository, purposes: ["read"], decrypts: content }),
  plan: ({ cluster: clusterId, systemIdentifier, segmentBytes, expected }, facts) =>
    create(VerifyWalCommandSchema, {
      repository: required(facts.repository),
      clusterId,
      systemIdentifier,
      segmentBytes,
      expected: expected.map(({ timeline, startLsn, endLsn }) => ({ timeline, startLsn, endLsn })),
    }),
  apply({ cluster: clusterId, repository: repositoryId, systemIdentifier }, { result, failure }) {
    // Without a result nothing was read to its end, and nothing is known of what lies there.
    if (result === undefined) return { failure, changes: reachability({ repositoryId }, failure) };
    const { problems, sound, ...counts } = result;
    if (result.objects === 0 && problems.length === 0 && failure === undefined)
      return invalidAnswer("the agent verified an archive without objects");
    const [first] = problems;
    const runs = problems.flatMap(({ run }) => (run ? [run] : []));
    return {
      result: {
        case: "verifiedWal",
        value: create(VerifiedWalSchema, {
          objects: counts.objects,
          bytes: counts.bytes,
          plainBytes: counts.plainBytes,
          records: counts.records,
          replacedParts: counts.replacedParts,
          undecoded: counts.undecoded,
          problems: problems.map(({ key, message, run }) => ({
            key,
            message,
            ...(run && { stretch: { timeline: run.timeline, startLsn: run.startLsn, endLsn: run.endLsn } }),
          })),
        }),
      },
      failure: failure ?? (first && failureToDetail(new Failure("OBJECT_MISSING", first.message))),
      changes: [
        ...reachability({ repositoryId }, undefined),
        {
          is: "walVerified",
          clusterId,
          repositoryId,
          systemIdentifier,
          isThorough: counts.undecoded === 0,
          lost: runs.map(parseRun),
          sound: sound.map(parseRun),
        },
      ],
    };
  },
});
