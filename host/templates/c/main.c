/* Greets people by name, as CGI/1.1 (RFC 3875) was always written: the request comes as environment variables and standard
 * input, the response goes to standard output, header lines first, then an empty line, then the body.
 *
 *   $ curl http://127.0.0.1:8080/{{name}}/Ada
 *   Hello, Ada!
 */

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 50 };

/* A variable of the request; never NULL. */
static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static int respond(const char *status, const char *text) {
    printf("Status: %s\nContent-Type: text/plain; charset=utf-8\n\n%s\n", status, text);
    return 0;
}

int main(void) {
    const char *method = variable("REQUEST_METHOD");
    bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    /* What follows the service's own part of the path, already decoded. */
    const char *name = variable("PATH_INFO");
    if (*name == '/') {
        name++;
    }
    if (!reads) {
        return respond("405 Method Not Allowed", "there is only GET");
    }
    if (*name == '\0') {
        return respond("200 OK", "Ask for a greeting: /{{name}}/Ada");
    }
    if (strlen(name) > NAME_MAX_BYTES) {
        return respond("400 Bad Request", "a name has at most 50 bytes");
    }
    char text[NAME_MAX_BYTES + 16];
    snprintf(text, sizeof text, "Hello, %s!", name);
    return respond("200 OK", text);
}
