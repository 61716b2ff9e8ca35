// SPDX-License-Identifier: Apache-2.0
// Numbers in words, and a short way to make elements.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const number = (value) => whole.format(value);
export const percent = (share) => `${Math.round(share * 100)} %`;

export function bytes(value) {
  if (value >= 1e9) return `${(value / 1e9).toFixed(1)} GB`;
  if (value >= 1e6) return `${number(value / 1e6)} MB`;
  return `${number(Math.ceil(value / 1e3))} kB`;
}

export function duration(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** An element with properties and children. Strings become text nodes: nothing here is ever read as HTML. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
