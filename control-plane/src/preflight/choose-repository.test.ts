import { Failure } from "@coppice/proto/kit/failure";
import { expect, test } from "vitest";
import type { RepositoryRow } from "../catalog/repository.ts";
import { chooseRepository, requireReachable } from "./choose-repository.ts";

const db7 = { id: "hst_7", name: "db7" };
const db8 = { id: "hst_8", name: "db8" };

function repository(name: string, homeHostId: string): RepositoryRow {
  const time = new Date(0);
  return {
    id: `rep_${name}`,
    name,
    labels: {},
    version: 1,
    createTime: time,
    updateTime: time,
    location: {},
    locationKey: name,
    homeHostId,
    writeSecretId: null,
    readSecretId: null,
    deleteSecretId: null,
    reachable: null,
    reachableTime: null,
    unreachableSince: null,
    problem: "",
  };
}

function failureOf(work: () => unknown): Partial<Failure> {
  try {
    work();
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
  return {};
}

test("the only repository that the host reaches is taken", () => {
  expect(chooseRepository([repository("main", "hst_7"), repository("other", "hst_8")], db7).name).toBe("main");
});

test("of several repositories none is taken, and the refusal lists them", () => {
  const several = [repository("main", "hst_7"), repository("second", "hst_7")];
  expect(failureOf(() => chooseRepository(several, db7))).toMatchObject({
    reason: "REPOSITORY_AMBIGUOUS",
    message: "host db7 can reach several repositories: main, second",
    hint: "name one of them: --to main",
  });
});

test("without a repository in reach the refusal says how to add one", () => {
  expect(failureOf(() => chooseRepository([repository("main", "hst_7")], db8))).toMatchObject({
    reason: "REPOSITORY_AMBIGUOUS",
    hint: "add one: coppice repo add NAME db8:/path",
  });
});

test("a folder of another host is refused with both hosts named", () => {
  const main = repository("main", "hst_7");
  expect(failureOf(() => requireReachable(main, db7, db8))).toMatchObject({
    reason: "REPOSITORY_WRONG_HOST",
    message: "repository main is a folder of host db7, not of db8",
  });
  expect(failureOf(() => requireReachable(main, db7, db7))).toEqual({});
});
