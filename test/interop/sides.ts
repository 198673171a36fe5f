import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { startTestServer, type TestServer } from '../../src/apiserver/testing.ts';
import { type Outcome, outcomeOf } from './compare.ts';
import { Connection, type Exchange } from './connection.ts';
import { type Peer, startPeer } from './peer.ts';

/** A request of a comparison. `$RV` in its body stands for the resource version that the server gave the object at `of`. */
export interface Case {
  id: string;
  exchange: Exchange;
  of?: string;
}

/** Our server and upstream's, asked the same things. */
export class Sides {
  readonly server: TestServer;
  readonly ours: Connection;
  peer: Peer | undefined;
  #answers: Record<string, Outcome> = {};
  #file: string | undefined;
  #versions = new Map<string, string>();
  #done: Exchange[] = [];
  #starting: Promise<void> | undefined;

  private constructor(server: TestServer) {
    this.server = server;
    this.ours = new Connection(server.address, { ca: server.ca, ...server.admin });
  }

  /**
   * With KUMULUS_PEER_ANSWERS=FILE the peer's answers are kept in that file and taken from there: for work on differences without
   * asking the peer each time. It is started when the first answer is missing.
   */
  static async start(): Promise<Sides> {
    const sides = new Sides(await startTestServer({ runtimeConfig: { 'api/all': true } }));
    const file = process.env['KUMULUS_PEER_ANSWERS'];
    sides.#file = file;
    if (file && existsSync(file)) sides.#answers = JSON.parse(readFileSync(file, 'utf8'));
    return sides;
  }

  async #ask(connection: Connection, c: Case): Promise<Outcome> {
    let { body } = c.exchange;
    if (c.of) {
      const key = `${connection.address} ${c.of}`;
      let version = this.#versions.get(key);
      if (!version) {
        version = (await connection.send({ method: 'GET', path: c.of })).json?.metadata?.resourceVersion ?? '';
        this.#versions.set(key, version as string);
      }
      body = (typeof body === 'string' ? body : JSON.stringify(body)).replaceAll('$RV', version as string);
    }
    try {
      return outcomeOf(await connection.send({ ...c.exchange, body }));
    } catch (error) {
      // Upstream's server panics at a few of the objects: that is nothing to be like.
      if (connection === this.ours) throw error;
      return { status: 0, warnings: [], body: (error as Error).message };
    }
  }

  /** Both answers to each case, in order; several are asked at a time. */
  async compare(cases: Case[]): Promise<{ id: string; ours: Outcome; theirs: Outcome }[]> {
    const results: { id: string; ours: Outcome; theirs: Outcome }[] = new Array(cases.length);
    let next = 0;
    const worker = async () => {
      for (let i = next++; i < cases.length; i = next++) {
        const c = cases[i]!;
        const known = this.#answers[c.id];
        if (!known && !this.peer) await (this.#starting ??= this.#startPeer());
        const [ours, theirs] = await Promise.all([this.#ask(this.ours, c), known ?? this.#ask(this.peer!.connection, c)]);
        this.#answers[c.id] = theirs;
        results[i] = { id: c.id, ours, theirs };
      }
    };
    await Promise.all(Array.from({ length: 6 }, worker));
    return results.filter((r) => r.theirs.status !== 0);
  }

  /** The peer, brought to where ours is. */
  async #startPeer(): Promise<void> {
    const peer = await startPeer();
    for (const exchange of this.#done) await peer.connection.send(exchange);
    this.peer = peer;
  }

  /** Does something on both that is no part of the comparison. */
  async both(exchange: Exchange): Promise<void> {
    await this.ours.send(exchange);
    this.#done.push(exchange);
    await this.peer?.connection.send(exchange);
  }

  async stop(): Promise<void> {
    if (this.#file) writeFileSync(this.#file, JSON.stringify(this.#answers));
    this.ours.close();
    await this.server.stop();
    await this.peer?.stop();
  }
}
