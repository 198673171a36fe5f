import { gunzipSync } from 'node:zlib';
import { parse } from 'yaml';

export interface BootScript {
  name: string;
  text: string;
}

/**
 * User data as the scripts that run once, at an instance's first boot, in the order of cloud-init: plain or gzipped (also as
 * base64), one script (`#!`), a `#cloud-config` (of which write_files, bootcmd and runcmd are followed), or a MIME archive of these.
 * What is none of them is left alone, with a word in `ignored` for the console.
 */
export function bootScripts(userData: string): { scripts: BootScript[]; ignored: string[] } {
  const scripts: BootScript[] = [];
  const ignored: string[] = [];
  const parts = splitArchive(unpack(userData));
  for (const [index, part] of parts.entries()) {
    const name = `part-${String(index + 1).padStart(3, '0')}`;
    const text = part.replace(/^\s+(?=#)/, '');
    if (text.trim() === '') continue;
    if (text.startsWith('#!')) scripts.push({ name, text });
    else if (/^#cloud-config\s*$/m.test(text.split('\n', 1)[0])) {
      try {
        scripts.push({ name, text: fromCloudConfig(parse(text) ?? {}) });
      } catch (error) {
        ignored.push(`user data ${name} is no valid cloud-config: ${(error as Error).message}`);
      }
    } else ignored.push(`user data ${name} starts with neither #! nor #cloud-config and is not run`);
  }
  return { scripts, ignored };
}

function unpack(text: string): string {
  if (text.startsWith('\x1f\x8b')) return unzip(Buffer.from(text, 'latin1'));
  // Base64 of a gzip header; what was encoded twice is seen in the wild too.
  if (/^H4sI[A-Za-z0-9+/=\s]+$/.test(text)) return unzip(Buffer.from(text, 'base64'));
  const trimmed = text.trim();
  if (/^[A-Za-z0-9+/\s]+=*$/.test(trimmed)) {
    const decoded = Buffer.from(trimmed, 'base64').toString('utf8');
    if (/^(#!|#cloud-config|Content-Type:|MIME-Version:)/i.test(decoded)) return decoded;
  }
  return text;
}

function unzip(bytes: Buffer): string {
  // 16 MiB are plenty: user data has at most 16 KiB packed.
  return gunzipSync(bytes, { maxOutputLength: 16 << 20 }).toString('utf8');
}

function splitArchive(text: string): string[] {
  const header = /^(?:[\w-]+:.*(?:\r?\n[ \t].*)*\r?\n)+\r?\n/.exec(text)?.[0];
  const boundary = header && /^content-type:\s*multipart\/[^;]+;(?:.|\r?\n[ \t])*?boundary="?([^"\r\n;]+)"?/im.exec(header)?.[1];
  if (!boundary) return [text];
  return text
    .slice(header.length)
    .split(`--${boundary}`)
    .filter((part) => part.trim() !== '' && !part.startsWith('--'))
    .map((part) => {
      const [head, ...body] = part.replace(/^\r?\n/, '').split(/\r?\n\r?\n/);
      const content = body.join('\n\n');
      return /^content-transfer-encoding:\s*base64/im.test(head) ? unpackBytes(Buffer.from(content, 'base64')) : content;
    });
}

function unpackBytes(bytes: Buffer): string {
  return bytes[0] === 0x1f && bytes[1] === 0x8b ? unzip(bytes) : bytes.toString('utf8');
}

interface CloudConfig {
  bootcmd?: (string | string[])[];
  runcmd?: (string | string[])[];
  write_files?: { path: string; content?: string; encoding?: string; permissions?: string; owner?: string; append?: boolean }[];
}

function fromCloudConfig(config: CloudConfig): string {
  const lines = ['#!/bin/sh'];
  const commands = (list: (string | string[])[] | undefined) => {
    for (const command of list ?? []) lines.push(Array.isArray(command) ? command.map((word) => quote(String(word))).join(' ') : String(command));
  };
  commands(config.bootcmd);
  for (const file of config.write_files ?? []) {
    const bytes = /^(b64|base64|gz\+b64|gz\+base64|gzip\+base64)$/.test(file.encoding ?? '')
      ? Buffer.from(file.content ?? '', 'base64')
      : Buffer.from(file.content ?? '');
    const content = file.encoding?.startsWith('gz') ? gunzipSync(bytes, { maxOutputLength: 16 << 20 }) : bytes;
    const path = quote(file.path);
    lines.push(
      `mkdir -p "$(dirname ${path})"`,
      `base64 -d ${file.append ? '>>' : '>'}${path} <<'KUMULUS-END'`,
      content.toString('base64'),
      'KUMULUS-END',
    );
    lines.push(`chmod ${quote(String(file.permissions ?? '0644'))} ${path}`);
    if (file.owner) lines.push(`chown ${quote(file.owner)} ${path}`);
  }
  commands(config.runcmd);
  return lines.join('\n') + '\n';
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
