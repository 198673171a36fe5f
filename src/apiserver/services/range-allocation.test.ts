import { pino } from 'pino';
import { expect, test } from 'vitest';
import { resources } from '../../api/generated/resources.ts';
import { encodeProtobuf } from '../../api/protobuf-encode.ts';
import { openMemoryStore } from '../../store/memory.ts';
import { startTestServer } from '../testing.ts';
import { freePlace } from './node-ports.ts';
import { bitmapOf, nodePortsKey, placesOf, SharedNodePorts } from './range-allocation.ts';

const log = pino({ level: 'silent' });
const taken = (count: number, ...places: number[]) => Uint8Array.from({ length: count }, (_, i) => Number(places.includes(i)));

/** Ports as one of several API servers keeps them; `services` are what its cache holds. */
function portsOn(store: ReturnType<typeof openMemoryStore>, services: object[] = []) {
  const cache = { entries: new Map(services.map((object, i) => [`default/s${i}`, { object }])) };
  return new SharedNodePorts({ store, current: () => undefined } as never, cache as never, [30000, 30099], log);
}
const nodePort = (port: number) => ({ metadata: { name: 'a' }, spec: { ports: [{ port: 80, nodePort: port }] } });
const storedPlaces = async (store: ReturnType<typeof openMemoryStore>) =>
  [...placesOf(JSON.parse((await store.get(nodePortsKey))!.value.toString()).data, 100).entries()].flatMap(([place, is]) => (is ? [place] : []));

test('a bitmap is what Go has of the number', () => {
  // big.Int with bits 0 and 15 set: bytes 80 01.
  expect(Buffer.from(bitmapOf(taken(100, 0, 15)), 'base64').toString('hex')).toBe('8001');
  expect(bitmapOf(taken(100))).toBe('');
  expect(placesOf(bitmapOf(taken(100, 3, 64, 99)), 100)).toEqual(taken(100, 3, 64, 99));
});

test('free places come from the upper part while it lasts', () => {
  const used = new Set<number>();
  for (let i = 0; i < 100; i++) {
    const place = freePlace(100, (p) => used.has(p))!;
    expect(place >= 16).toBe(i < 84);
    used.add(place);
  }
  expect(used.size).toBe(100);
  expect(freePlace(100, (p) => used.has(p))).toBeUndefined();
});

test('many that ask at once share writes; two servers never give the same', async () => {
  const store = openMemoryStore();
  const servers = [portsOn(store, [nodePort(30050)]), portsOn(store, [nodePort(30050)])];
  const before = store.revision();
  const given = await Promise.all(Array.from({ length: 110 }, (_, i) => servers[i % 2]!.take()));
  const ports = given.filter((port) => port !== undefined);
  // All but the one that a service had before there was anything in the store.
  expect(ports).toHaveLength(99);
  expect(new Set(ports).size).toBe(99);
  expect(ports).not.toContain(30050);
  expect(store.revision() - before).toBeLessThan(10);
  await Promise.all([servers[0]!.release([30001, 30002]), servers[1]!.release([30002, 30003, 12])]);
  expect(await servers[0]!.take(30002)).toBe(30002);
  expect(await servers[1]!.take(30002)).toBeUndefined();
  expect(await servers[1]!.isTaken(30001)).toBe(false);
});

test('what upstream wrote is read, and another range is not written over', async () => {
  const store = openMemoryStore();
  const write = async (range: string) => {
    const object = { apiVersion: 'v1', kind: 'RangeAllocation', metadata: {}, range, data: bitmapOf(taken(100, 7)) };
    await store.transaction([], [{ type: 'put', key: nodePortsKey, value: encodeProtobuf(object, 'io.k8s.api.core.v1.RangeAllocation')! }]);
  };
  await write('30000-30099');
  expect(await portsOn(store).take(30007)).toBeUndefined();
  expect(await portsOn(store).take(30008)).toBe(30008);
  expect(await storedPlaces(store)).toEqual([7, 8]);
  await write('30000-32767');
  await expect(portsOn(store).take()).rejects.toThrow('the provided range does not match the current range');
  // The repair is what a change of the range waits for.
  await portsOn(store, [nodePort(30009)]).repair();
  expect(await storedPlaces(store)).toEqual([9]);
});

test('a repair adds what services have, and gives back what none has had for three rounds', async () => {
  const store = openMemoryStore();
  const ports = portsOn(store, [nodePort(30001)]);
  await ports.take(30002);
  await store.transaction(
    [],
    [{ type: 'put', key: nodePortsKey, value: Buffer.from(JSON.stringify({ range: '30000-30099', data: bitmapOf(taken(100, 2)) })) }],
  );
  for (let round = 0; round < 3; round++) {
    await ports.repair();
    expect(await storedPlaces(store)).toEqual([1, 2]);
  }
  await ports.repair();
  expect(await storedPlaces(store)).toEqual([1]);
});

test('servers that start at once over one store make one set of default objects; services of before get their IPAddress objects', async () => {
  const store = Object.assign(openMemoryStore(), { shared: true });
  const first = await startTestServer({ store });
  const admin = first.localClient({ name: 'admin', groups: ['system:masters'] });
  const made = await admin.create(resources.services, { metadata: { namespace: 'default', name: 'old' }, spec: { ports: [{ port: 80 }] } } as any);
  await first.stop();
  // As an earlier version left it.
  await store.transaction([], [{ type: 'delete', key: `/registry/ipaddresses/${made.spec!.clusterIP}` }]);
  const servers = await Promise.all([1, 2, 3].map((i) => startTestServer({ store, advertise: { address: `10.0.0.${i}`, port: 6443 } })));
  const client = servers[2]!.localClient({ name: 'admin', groups: ['system:masters'] });
  const ip = await client.get(resources.ipaddresses, { name: made.spec!.clusterIP! });
  expect(ip.spec!.parentRef).toEqual({ resource: 'services', namespace: 'default', name: 'old' });
  await Promise.all(servers.map((s) => s.stop()));
  expect((await store.get('/registry/masterleases/10.0.0.1')) ?? (await store.get('/registry/masterleases/10.0.0.3'))).toBeUndefined();
  await store.close();
});
