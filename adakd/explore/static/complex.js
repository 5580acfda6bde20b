// Complex numbers as pairs [re, im].

export const add = ([a, b], [c, d]) => [a + c, b + d];
export const subtract = ([a, b], [c, d]) => [a - c, b - d];
export const times = ([a, b], [c, d]) => [a * c - b * d, a * d + b * c];
export const divide = (x, [c, d]) => times(x, [c / (c * c + d * d), -d / (c * c + d * d)]);
export const modulus = ([a, b]) => Math.hypot(a, b);
export const polar = (radius, angle) => [radius * Math.cos(angle), radius * Math.sin(angle)];
