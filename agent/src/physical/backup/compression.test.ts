import { create } from "@bufbuild/protobuf";
import {
  BaseBackupCodec,
  type BaseBackupOptions,
  BaseBackupOptionsSchema,
} from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { expect, test } from "vitest";
import { compressionsToTry } from "./compression.ts";
import { resolveBackupOptions } from "./options.ts";

const resolve = (given: Partial<Omit<BaseBackupOptions, "$typeName">> = {}) =>
  resolveBackupOptions(create(BaseBackupOptionsSchema, given), "bkp_1");
const local = (cores: number) => ({ isLocal: true, cores });

test.each([
  [local(1), 2],
  [local(2), 2],
  [local(6), 3],
  [local(64), 4],
  [{ isLocal: false, cores: 64 }, 2],
])("on %j the server is asked for %i threads, then for none, then this host compresses", (host, workers) => {
  const zstd = { codec: "zstd", level: 1 };
  expect(compressionsToTry(resolve(), host)).toEqual([{ ...zstd, workers }, zstd, undefined]);
});

test("threads that were asked for are not given up", () => {
  const ways = compressionsToTry(resolve({ compressionWorkers: 3, compressionLevel: 7 }), local(2));
  expect(ways).toEqual([{ codec: "zstd", level: 7, workers: 3 }]);
});

test.each([BaseBackupCodec.GZIP, BaseBackupCodec.NONE])(
  "codec %i has no threads, and asking for some is wrong",
  (codec) => {
    expect(compressionsToTry(resolve({ codec }), local(8)).some((way) => way?.workers !== undefined)).toBe(false);
    expect(() => resolve({ codec, compressionWorkers: 1 })).toThrow("one thread at most");
  },
);
