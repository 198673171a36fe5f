import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import type { KubeObject, ResourceType } from '../api/object.ts';
import { type Clock, systemClock } from '../client/clock.ts';
import { createFakeClient, type FakeClient } from '../client/fake.ts';
import { createInformerFactory } from '../client/informers.ts';
import type { ControllerContext } from './controller.ts';

/** A context over the fake client for unit tests: events are kept in `recorded`, errors of controllers are silent. */
export interface TestContext extends ControllerContext {
  client: FakeClient;
  recorded: { about: KubeObject; type: string; reason: string; message: string }[];
  stop(): void;
}

export function testContext(objects: readonly unknown[] = [], clock: Clock = systemClock): TestContext {
  const controller = new AbortController();
  const { signal } = controller;
  const log = pino({ level: process.env['KUMULUS_TEST_LOG'] ?? 'silent' });
  const client = createFakeClient(objects, { clock });
  const recorded: TestContext['recorded'] = [];
  return {
    client,
    informers: createInformerFactory(client, { log, clock, signal }),
    clock,
    events: { event: (about, type, reason, message) => void recorded.push({ about, type, reason, message }) },
    log,
    signal,
    recorded,
    stop: () => controller.abort(new Error('the test is over')),
  };
}

/** Resolves with what check returns as soon as that is not undefined, null or false; fails after five seconds with what it waited for. */
export async function eventually<T>(what: string, check: () => T | undefined | null | false | Promise<T | undefined | null | false>): Promise<T> {
  const until = Date.now() + 5000;
  for (;;) {
    const result = await check();
    if (result) return result;
    if (Date.now() > until) throw new Error(`waited in vain for ${what}`);
    await delay(5);
  }
}

/** Lets everything that is under way come to rest: for tests of what must not happen. */
export const settle = (ms = 60): Promise<void> => delay(ms);

/** Sets an object's status, as the kubelet or another component would. */
export async function setStatus<T extends KubeObject>(client: FakeClient, type: ResourceType<T>, object: T, status: unknown): Promise<T> {
  const live = (await client.get(type, object.metadata)) as T;
  return client.update(type, { ...live, status: { ...(live as { status?: object }).status, ...(status as object) } }, { subresource: 'status' });
}
