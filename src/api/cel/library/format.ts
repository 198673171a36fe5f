import { matchesFormat } from '../../crd/formats.ts';
import { dns1035Problems } from '../../crd/metadata.ts';
import { labelProblems, labelValueProblems, qualifiedNameProblems, subdomainProblems } from '../../validation.ts';
import { t } from '../types.ts';
import { listOf, Opaque, Optional } from '../values.ts';
import { library } from './library.ts';

/** A named check of texts, such as format.dns1123Label(). */
class Format extends Opaque {
  readonly type = t.opaque('kubernetes.NamedFormat');
  readonly name: string;
  readonly check: (text: string) => string[];
  constructor(name: string, check: (text: string) => string[]) {
    super();
    this.name = name;
    this.check = check;
  }
  override equals(other: Opaque): boolean {
    return this.name === (other as Format).name;
  }
}

/** A name to which five random characters will be added must be right with any. */
const prefix = (check: (text: string) => string[]) => (text: string) => check(text.endsWith('-') ? `${text.slice(0, -1)}a` : text);
const byFormat = (format: string, message: string) => (text: string) => (matchesFormat(format, text) ? [] : [message]);

const isRequestUri = (text: string): string[] =>
  !/[\x00-\x20\x7f]/.test(text) && (text.startsWith('/') || /^[a-zA-Z][a-zA-Z0-9+.-]*:./.test(text))
    ? []
    : [`parse ${JSON.stringify(text)}: invalid URI for request`];

const formats: Record<string, Format> = Object.fromEntries(
  (
    [
      ['dns1123Label', labelProblems],
      ['dns1123Subdomain', subdomainProblems],
      ['dns1035Label', dns1035Problems],
      ['qualifiedName', qualifiedNameProblems],
      ['dns1123LabelPrefix', prefix(labelProblems)],
      ['dns1123SubdomainPrefix', prefix(subdomainProblems)],
      ['dns1035LabelPrefix', prefix(dns1035Problems)],
      ['labelValue', labelValueProblems],
      ['uri', isRequestUri],
      ['uuid', byFormat('uuid', 'does not match the UUID format')],
      ['byte', byFormat('byte', 'invalid base64')],
      ['date', byFormat('date', 'invalid date')],
      ['datetime', byFormat('datetime', 'invalid datetime')],
    ] as const
  ).map(([name, check]) => [name, new Format(name, check)]),
);

export const formatLibrary = library({
  ...Object.fromEntries(
    Object.entries(formats).map(([name, format]) => [`format.${name}`, [[`format.${name}`, '() kubernetes.NamedFormat', () => format]] as never]),
  ),
  'format.named': [
    [
      'format-named',
      '(string) optional<kubernetes.NamedFormat>',
      (name: string) => (Object.hasOwn(formats, name) ? new Optional(formats[name] as Format) : Optional.none),
    ],
  ],
  validate: [
    [
      'format-validate',
      'kubernetes.NamedFormat.(string) optional<list<string>>',
      (format: Format, text: string) => {
        const problems = format.check(text);
        return problems.length ? new Optional(listOf(problems)) : Optional.none;
      },
    ],
  ],
});
