import { createDeflate, createInflate, constants, type Deflate, type Inflate } from 'node:zlib';

/** Words of the compression dictionary that both ends of SPDY 3 share, each with its length before it, then a tail without; see the SPDY 3.1 draft, 2.6.10.1. */
const words =
  'options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization cache-control connection ' +
  'content-base content-encoding content-language content-length content-location content-md5 content-range content-type date etag expect expires from host ' +
  'if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization ' +
  'range referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK version ' +
  'HTTP/1.1 url public set-cookie keep-alive origin';
const tail =
  '100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information204 No Content' +
  '301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable' +
  'Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,' +
  'application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.';

const length = (n: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(n);
  return bytes;
};
const text = (value: string) => {
  const bytes = Buffer.from(value, 'utf8');
  return Buffer.concat([length(bytes.length), bytes]);
};

export const spdyDictionary: Buffer = Buffer.concat([...words.split(' ').map((w) => text(w.replace('_', ' '))), Buffer.from(tail)]);

export type SpdyHeaders = Map<string, string>;
const maxBlock = 64 * 1024;

/** What a zlib stream makes of one piece of input, when all of it is out. Each end of a connection keeps its own state over all blocks. */
function through(stream: Deflate | Inflate, input: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const onData = (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxBlock) return done(new Error('a header block is too large'));
      chunks.push(chunk);
    };
    const done = (error?: Error | null) => {
      stream.off('data', onData);
      stream.off('error', done);
      if (error) reject(error);
      else resolve(Buffer.concat(chunks));
    };
    stream.on('data', onData);
    stream.once('error', done);
    stream.write(input, (error) => {
      if (error) return done(error);
      stream.flush(constants.Z_SYNC_FLUSH, () => done());
    });
  });
}

/** Reads and writes the header blocks of one connection. Calls must not overlap. */
export class HeaderCodec {
  private readonly inflate = createInflate({ dictionary: spdyDictionary });
  private readonly deflate = createDeflate({ dictionary: spdyDictionary, flush: constants.Z_SYNC_FLUSH });

  async decode(block: Buffer): Promise<SpdyHeaders> {
    const plain = await through(this.inflate, block);
    const headers: SpdyHeaders = new Map();
    let at = 0;
    const number = () => {
      if (at + 4 > plain.length) throw new Error('a header block ends early');
      at += 4;
      return plain.readUInt32BE(at - 4);
    };
    const string = () => {
      const n = number();
      if (at + n > plain.length) throw new Error('a header block ends early');
      at += n;
      return plain.toString('utf8', at - n, at);
    };
    for (let left = number(); left > 0; left--) headers.set(string().toLowerCase(), string());
    return headers;
  }

  encode(headers: SpdyHeaders): Promise<Buffer> {
    const plain = Buffer.concat([length(headers.size), ...[...headers].flatMap(([name, value]) => [text(name.toLowerCase()), text(value)])]);
    return through(this.deflate, plain);
  }

  close(): void {
    this.inflate.on('error', () => {});
    this.inflate.close();
    this.deflate.close();
  }
}
