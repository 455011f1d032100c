import { create } from "@bufbuild/protobuf";
import { VerifyWalResultSchema } from "@coppice/proto/gen/coppice/agent/v1/verify_wal";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import type { WalExtent } from "../wal/store/extent.ts";
import { verifyWal, walFailure } from "../wal/verify/verify-wal.ts";
import type { Handler } from "./handler.ts";
import { withStorage } from "./with-storage.ts";

const toRun = ({ timeline, startLsn, endLsn }: WalExtent) => ({
  timeline,
  startLsn: formatLsn(startLsn),
  endLsn: formatLsn(endLsn),
});

/** Reads the archived WAL of a server again, and says what is wrong with it. */
export const verifyWalCommand: Handler<"verifyWal"> = async (command, context) => {
  const { repository, clusterId, systemIdentifier, segmentBytes, expected } = command;
  const verified = await withStorage(repository, context, (storage) =>
    verifyWal(storage, {
      place: { clusterId, systemIdentifier },
      segmentBytes,
      expected: expected.map(({ timeline, startLsn, endLsn }) => ({
        timeline,
        startLsn: parseLsn(startLsn),
        endLsn: parseLsn(endLsn),
      })),
      identities: context.secret(repository?.identitySecret ?? ""),
      signal: context.signal,
      onProgress: context.progress,
    }),
  );
  const { objects, bytes, plainBytes, records, replaced: replacedParts, undecoded, problems, sound } = verified;
  const result = create(VerifyWalResultSchema, {
    objects,
    bytes,
    plainBytes,
    records,
    replacedParts,
    undecoded,
    problems: problems.map(({ key, message, run }) => ({ key, message, ...(run && { run: toRun(run) }) })),
    sound: sound.map(toRun),
  });
  return { result, failure: walFailure(verified, repository?.name ?? "") };
};
